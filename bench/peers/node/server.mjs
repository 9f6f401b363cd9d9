// express-openid-connect + http-proxy-middleware: session in an encrypted cookie, access token added, session cookie removed.
import http from "node:http";
import express from "express";
import openid from "express-openid-connect";
import { createProxyMiddleware } from "http-proxy-middleware";

const { auth, requiresAuth } = openid;
const { PORT, ISSUER, CLIENT_ID, CLIENT_SECRET, UPSTREAM, SESSION_SECRET } = process.env;
const app = express();
app.disable("x-powered-by");
app.use(
  auth({
    issuerBaseURL: ISSUER,
    baseURL: `http://localhost:${PORT}`,
    clientID: CLIENT_ID,
    clientSecret: CLIENT_SECRET,
    clientAuthMethod: "client_secret_basic",
    secret: SESSION_SECRET,
    authRequired: false,
    authorizationParams: { response_type: "code", scope: "openid profile" },
    session: { absoluteDuration: 86400, rollingDuration: 86400 },
  }),
);
app.use(
  "/api",
  requiresAuth(),
  createProxyMiddleware({
    target: `http://127.0.0.1:${UPSTREAM}/api`,
    agent: new http.Agent({ keepAlive: true, maxSockets: 512 }),
    on: {
      proxyReq(outgoing, request) {
        outgoing.setHeader("Authorization", `Bearer ${request.oidc.accessToken.access_token}`);
        const kept = (request.headers.cookie ?? "").split("; ").filter((pair) => !pair.startsWith("appSession"));
        outgoing.setHeader("Cookie", kept.join("; "));
      },
    },
  }),
);
http.createServer({ keepAliveTimeout: 300_000 }, app).listen(Number(PORT), "127.0.0.1");
