/** The right half of the page: what happened, what each end of the line saw, and the timeline. */

import { $, describe, make } from "./dom.js";
import { evidence, showRaw } from "./exchange.js";

const kindOf = (status) => (status < 400 ? "good" : "bad");

/** The headline. `kind`: good, bad, wait or idle. */
export function say({ kind, badge, title, text, body = [] }) {
  $("verdict").dataset.kind = kind;
  $("badge").textContent = badge;
  $("result-title").textContent = title;
  $("result-text").textContent = text;
  $("result-body").replaceChildren(...body);
  const { top } = $("result").getBoundingClientRect();
  if (top < 0 || top > innerHeight / 2) $("result").scrollIntoView({ block: "start" });
}

/** One finished exchange everywhere at once: raw panes, both sides, the line, the timeline. */
export function show(seen, what) {
  showRaw($("raw-request"), $("raw-response"), seen);
  showSeen();
  const received = seen.body?.received;
  if (received) showReceived(seen.body);
  else describe($("received"), [["This call", nothingReceived(seen), "plain"]]);
  light(received ? "api" : seen.headers.some(([name]) => name.toLowerCase() === "bff-error") ? "bff" : seen.status < 400 ? "answer" : "api-no");
  log(seen.status, what, `${seen.method} ${seen.path}`, seen.tookMs);
  return seen;
}

/** A connection that stays has no exchange to show: its opening, in the same places. */
export function showOpening({ request, response, received }) {
  $("raw-request").textContent = request;
  $("raw-response").textContent = response;
  describe($("received"), received);
  showSeen();
}

export function badgeOf(seen) {
  return { kind: kindOf(seen.status), badge: `${seen.status} ${seen.statusText}`.trim() };
}

function nothingReceived(seen) {
  const own = seen.path.startsWith("/bff/");
  if (own) return "Nothing: the token handler answered by itself.";
  return seen.headers.some(([name]) => name.toLowerCase() === "bff-error") ? "Nothing: the token handler refused before the API heard of it." : "The API answered without saying what it saw.";
}

let known = null;

/** What /bff/user told this page: the only things it knows about the person. */
export function showKnown(user) {
  known = user;
  showSeen();
}

/** The truth about storage and cookies on this side, read anew each time. */
export function showSeen() {
  const none = (text) => [text, "none"];
  const cookie = document.cookie === "" ? none("empty") : [document.cookie, "alarm"];
  const stored = (store) => (store.length === 0 ? none("empty") : [Object.keys(store).join(", "), "alarm"]);
  const tokens = evidence.tokens === 0 ? none("none found") : [`${evidence.tokens} found!`, "alarm"];
  const claims = known && Object.keys(known).filter((name) => name !== "session").join(", ");
  describe($("seen"), [
    ["Session cookie", known ? "held, HttpOnly: not readable" : "not held", "plain"],
    ["document.cookie", ...cookie],
    ["localStorage", ...stored(localStorage)],
    ["sessionStorage", ...stored(sessionStorage)],
    ["Answers read", `${evidence.answers} (${(evidence.bytes / 1024).toFixed(1)} KiB)`],
    ["Tokens in them", ...tokens],
    ["From /bff/user", claims || "nobody is signed in", claims ? "" : "plain"],
  ]);
}

/** What the API says it got. Claims are shown in clear here because the API sent them: they are its proof, not a token. */
function showReceived({ received, caller }) {
  const claims = caller ?? received.claims ?? {};
  const cookies = received.cookie_arrived ?? (received.cookies ?? []).length > 0;
  const scheme = received.authorization || received.scheme || "";
  const audience = [claims.aud ?? []].flat().join(", ");
  describe($("received"), [
    ["Authorization", scheme ? `${scheme.split(" ")[0]} eyJ… (a JWT)` : "nothing"],
    ["Cookie", cookies ? "it arrived!" : "none arrived", cookies ? "alarm" : "none"],
    ["sub", claims.sub ?? "–"],
    ["aud", audience || "–"],
    ["scope", claims.scope ?? "–"],
    ...(claims.acr ? [["acr", claims.acr]] : []),
    ...(claims.jti ? [["token id", shorten(claims.jti)]] : []),
    ["Token expires", claims.exp ? `in ${Math.max(0, Math.round(claims.exp - Date.now() / 1000))} s` : "–", "plain"],
  ]);
}

export const shorten = (text) => (text.length > 14 ? `${text.slice(0, 12)}…` : text);

/** Light the way as far as the call came. */
export function light(reach) {
  const hops = Object.fromEntries([...$("line").children].map((item) => [item.dataset.hop, item]));
  for (const hop of Object.values(hops)) hop.classList.remove("lit", "stop");
  void $("line").offsetWidth; // starts the animation again
  hops.browser.classList.add("lit");
  hops.bff.classList.add(reach === "bff" ? "stop" : "lit");
  if (reach === "api") hops.api.classList.add("lit");
  if (reach === "api-no") hops.api.classList.add("stop");
}

/** A line of the timeline, newest first, the last hundred kept. */
export function log(status, what, detail = "", tookMs = null) {
  const kind = typeof status === "number" ? kindOf(status) : "idle";
  const now = new Date();
  const line = make("li", {},
    make("time", { datetime: now.toISOString() }, now.toLocaleTimeString()),
    make("span", { class: `status ${kind}` }, String(status)),
    make("span", { class: "what" }, what, detail ? " · " : "", detail ? make("code", {}, detail) : ""),
    make("span", { class: "took" }, tookMs === null ? "" : `${Math.max(1, Math.round(tookMs))} ms`));
  $("log").prepend(line);
  while ($("log").children.length > 100) $("log").lastElementChild.remove();
}
