// npm oidc-provider as an independent provider: `node oidc_provider.mjs PORT CLIENTS_JSON OPTIONS_JSON`.
// Login and consent are forms that a browser really submits; access tokens are JWTs for a resource.
import { createServer } from 'node:http';
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import Provider from 'oidc-provider';

const [port, clients, options] = [Number(process.argv[2]), JSON.parse(process.argv[3]), JSON.parse(process.argv[4] ?? '{}')];
const issuer = `http://127.0.0.1:${port}`;
const people = {
  ada: { sub: 'ada', name: 'Ada Lindqvist', email: 'ada@example.com', department: 'sales', region: 'eu' },
  ben: { sub: 'ben', name: 'Ben Okafor', email: 'ben@example.com', department: 'engineering', region: 'us' },
};
const resourceScope = 'orders:read orders:write';

function signingKey(kid, type, alg, parameters) {
  const { privateKey } = generateKeyPairSync(type, parameters);
  return { ...privateKey.export({ format: 'jwk' }), kid, alg, use: 'sig' };
}

const provider = new Provider(issuer, {
  clients,
  jwks: {
    keys: [
      signingKey('rs', 'rsa', 'RS256', { modulusLength: 2048 }),
      signingKey('es', 'ec', 'ES256', { namedCurve: 'P-256' }),
    ],
  },
  cookies: { keys: [randomBytes(16).toString('hex')] },
  pkce: { required: () => true },
  scopes: ['openid', 'offline_access', 'profile', 'email'],
  claims: { openid: ['sub'], profile: ['name', 'department', 'region'], email: ['email'] },
  conformIdTokenClaims: false,
  rotateRefreshToken: true,
  issueRefreshToken: async () => true,
  ttl: { AccessToken: options.accessTokenTtl ?? 300, RefreshToken: 3600, Session: 3600, Grant: 3600, Interaction: 600, IdToken: 300 },
  // Since 9.x its own calls refuse loopback addresses, by a dispatcher: without this no back-channel logout arrives here.
  fetch: (url, { method, headers, body, signal }) => globalThis.fetch(url, { method, headers, body, signal, redirect: 'manual' }),
  findAccount: (ctx, id) => people[id] && { accountId: id, claims: async () => people[id] },
  interactions: { url: (ctx, interaction) => `/interaction/${interaction.uid}` },
  features: {
    devInteractions: { enabled: false },
    backchannelLogout: { enabled: true },
    revocation: { enabled: true },
    introspection: { enabled: true },
    pushedAuthorizationRequests: { enabled: true, requirePushedAuthorizationRequests: Boolean(options.requirePar) },
    clientCredentials: { enabled: true },
    rpInitiatedLogout: {
      enabled: true,
      logoutSource: async (ctx, form) => {
        ctx.body = form.replace('</form>', '<button name="logout" value="yes">Sign out</button></form>');
      },
    },
    resourceIndicators: {
      enabled: true,
      defaultResource: (ctx, client, oneOf) => oneOf ?? options.resource,
      useGrantedResource: () => true,
      getResourceServerInfo: (ctx, resource) => ({
        scope: resourceScope,
        audience: resource,
        accessTokenFormat: 'jwt',
        jwt: { sign: { alg: 'RS256' } },
      }),
    },
  },
});

function page(uid, content) {
  return `<!doctype html><title>Sign in</title><form method="post" action="/interaction/${uid}">${content}</form>`;
}

async function showInteraction(ctx, uid) {
  const { prompt } = await provider.interactionDetails(ctx.req, ctx.res);
  const buttons = Object.keys(people).map((name) => `<button name="person" value="${name}">${name}</button>`).join('');
  ctx.type = 'html';
  ctx.body = page(uid, prompt.name === 'login' ? buttons : '<button name="decision" value="allow">Allow</button>');
}

async function readForm(req) {
  const pieces = [];
  for await (const piece of req) pieces.push(piece);
  return new URLSearchParams(Buffer.concat(pieces).toString());
}

async function grantFor(details) {
  const grant = details.grantId
    ? await provider.Grant.find(details.grantId)
    : new provider.Grant({ accountId: details.session.accountId, clientId: details.params.client_id });
  grant.addOIDCScope('openid profile email offline_access');
  for (const resource of [details.params.resource ?? options.resource].flat()) grant.addResourceScope(resource, resourceScope);
  return grant.save();
}

async function finishInteraction(ctx) {
  const details = await provider.interactionDetails(ctx.req, ctx.res);
  const form = await readForm(ctx.req);
  const result = details.prompt.name === 'login'
    ? { login: { accountId: form.get('person'), acr: 'pwd', amr: ['pwd'] } }
    : { consent: { grantId: await grantFor(details) } };
  await provider.interactionFinished(ctx.req, ctx.res, result, { mergeWithLastSubmission: true });
  ctx.respond = false;
}

provider.use(async (ctx, next) => {
  const uid = /^\/interaction\/([\w-]+)$/.exec(ctx.path)?.[1];
  if (!uid) return next();
  return ctx.method === 'POST' ? finishInteraction(ctx) : showInteraction(ctx, uid);
});

provider.on('backchannel.error', (ctx, error, client) => console.log('backchannel.error', client.clientId, error.message));
provider.on('backchannel.success', (ctx, client) => console.log('backchannel.success', client.clientId));
for (const name of ['authorization.error', 'grant.error', 'end_session.error', 'pushed_authorization_request.error', 'server_error']) {
  provider.on(name, (ctx, error) => console.log(name, error.message, error.error_description ?? '', error.error_detail ?? ''));
}
createServer(provider.callback()).listen(port, '127.0.0.1', () => console.log('listening', issuer));
