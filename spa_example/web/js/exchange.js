/** Every call of this page goes through here, so that it can be shown as it was: raw, timed, and searched for tokens. */

const JWT = /eyJ[\w-]{6,}\.eyJ[\w-]{6,}\.[\w-]*/;

/** What the page learned about itself: how much it received, and whether a token was ever in it. */
export const evidence = { answers: 0, bytes: 0, tokens: 0 };

/**
 * @typedef {{ method: string, path: string, requestHeaders: [string, string][], requestBody: string, notes: string[],
 *             status: number, statusText: string, headers: [string, string][], text: string, body: any, tookMs: number }} Exchange
 */

/** Call `send(path, init)` and keep all of it. Never throws for a status; throws when there was no answer at all.
 *  @returns {Promise<Exchange>} */
export async function exchange(send, path, init = {}, { csrf = true } = {}) {
  const method = init.method ?? "GET";
  const requestHeaders = Object.entries(init.headers ?? {});
  if (csrf) requestHeaders.push(["X-CSRF", "1"]);
  const started = performance.now();
  const response = await send(path, init);
  const text = await response.text();
  remember(text);
  return {
    method, path, requestHeaders, requestBody: init.body ? String(init.body) : "",
    notes: ["Cookie: added by the browser, out of this page's reach"],
    status: response.status, statusText: response.statusText, headers: [...response.headers],
    text, body: readJson(text), tookMs: performance.now() - started,
  };
}

/** Count something that arrived, and look for a token in it. */
export function remember(text) {
  evidence.answers += 1;
  evidence.bytes += text.length;
  if (JWT.test(text)) evidence.tokens += 1;
}

function readJson(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

const span = (kind, text) => {
  const element = document.createElement("span");
  element.className = kind;
  element.textContent = text;
  return element;
};

/** The request and the answer as lines of HTTP, into two <pre>. */
export function showRaw(request, response, seen) {
  request.replaceChildren(span("start", `${seen.method} ${seen.path} HTTP/1.1`), "\n", `Host: ${location.host}\n`,
    ...fields(seen.requestHeaders), ...seen.notes.map((note) => span("note", `${note}\n`)),
    ...(seen.requestBody ? ["\n", span("text", seen.requestBody)] : []));
  const body = seen.body === null ? seen.text : JSON.stringify(seen.body, null, 2);
  response.replaceChildren(span("start", `HTTP/1.1 ${seen.status} ${seen.statusText}`.trim()), "\n", ...fields(seen.headers),
    "\n", span("text", body.length > 6000 ? `${body.slice(0, 6000)}\n…` : body));
  request.scrollTop = response.scrollTop = 0;
}

function fields(headers) {
  const short = (value) => (value.length > 90 ? `${value.slice(0, 84)}…` : value);
  return headers.flatMap(([name, value]) => [span("name", `${name}:`), ` ${short(value)}\n`]);
}
