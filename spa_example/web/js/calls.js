/** The buttons that make one call, or a few, and explain what came of it. */

import { isStepUp } from "/bff/client.js";
import { $, make, moment, table } from "./dom.js";
import { evidence, exchange } from "./exchange.js";
import { badgeOf, log, say, shorten, show, showSeen } from "./stage.js";

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const JSON_HEADERS = { accept: "application/json" };

/** @param {ReturnType<import("/bff/client.js").createBff>} bff */
export function buildCalls(bff) {
  const call = async (path, init = {}, what = "Call") =>
    show(await exchange(bff.fetch, path, { ...init, headers: { ...JSON_HEADERS, ...init.headers } }), what);

  function explain(seen) {
    const problem = seen.body ?? {};
    if (seen.status === 401 && isStepUp(problem)) return stepUp(problem, seen);
    const known = {
      401: ["Sign in first", "A call without a session gets a 401 with a problem document. No redirect, no surprise: the page decides what to do."],
      403: ["Not permitted", problem.detail || "The session is good, but it may not do this."],
      404: ["Not here", "There is no such route. Only configured routes lead anywhere."],
      503: ["One moment", problem.detail || "Something behind us is not reachable. Nobody was signed out."],
    }[seen.status];
    const [title, text] = known ?? ["That did not work", problem.detail || seen.statusText];
    return say({ ...badgeOf(seen), title, text });
  }

  async function orders() {
    const seen = await call("/api/orders", {}, "Listed the orders");
    if (seen.status !== 200) return explain(seen);
    return say({
      ...badgeOf(seen), title: "The orders",
      text: "Your cookie never left for the API: it got a JWT, checked it itself, and answered.",
      body: [orderTable(seen.body.orders)],
    });
  }

  function orderTable(rows, fresh = null) {
    return table(rows.slice(0, 8), [["No.", (row) => String(row.id)], ["Item", (row) => row.item], ["Region", (row) => (row.region || "–").toUpperCase()],
      ["Quantity", (row) => String(row.quantity), true]], (row) => row.id === fresh);
  }

  async function place(form) {
    const data = new FormData(form);
    const body = JSON.stringify({ item: data.get("item"), quantity: Number(data.get("quantity")) });
    const seen = await call("/api/orders", { method: "POST", body, headers: { "content-type": "application/json" } }, "Placed an order");
    if (seen.status === 403) {
      return say({ ...badgeOf(seen), title: "This person may not order",
        text: "The session lacks the scope orders:write. A missing permission is a plain 403: it is never mistaken for a lost session." });
    }
    if (seen.status !== 201) return explain(seen);
    const order = seen.body.order;
    return say({ ...badgeOf(seen), title: `Order ${order.id} is placed`, text: "A POST passes only with the header that no other site can send for you.",
      body: [orderTable([order], order.id)] });
  }

  async function naked() {
    const seen = show(await exchange(fetch, "/api/orders", { headers: JSON_HEADERS }, { csrf: false }), "Called without the header");
    if (seen.status !== 403) return explain(seen);
    return say({ ...badgeOf(seen), title: "Refused at the door",
      text: "The cookie was sent, and that was not enough. A page of another site could make the browser send it too, but never the header. The API heard nothing." });
  }

  async function stale() {
    const before = await call("/api/whoami", {}, "Asked the API who I am");
    if (before.status !== 200) return explain(before);
    const expired = await call("/demo-provider/admin/expire-tokens", { method: "POST" }, "Told the provider to expire the token");
    if (expired.status !== 200) return explain(expired);
    const was = tokenOf(before);
    for (let second = 0; second < 10; second += 1) {
      say({ kind: "wait", badge: "Waiting", title: "The token is dead at the provider", text: "The API forgets withdrawn keys within seconds. Calling until it minds…" });
      const seen = await call("/api/whoami", {}, "Called with a stale token");
      if (seen.status !== 200) return explain(seen);
      if (tokenOf(seen) !== was) {
        return say({ ...badgeOf(seen), title: "You noticed nothing",
          text: "The API refused the old token. The token handler fetched a new one with the refresh token, once, and repeated the call. This page saw one 200.",
          body: [make("p", {}, `Token before ${was}, token now ${tokenOf(seen)}.`)] });
      }
      await pause(1000);
    }
    return say({ kind: "idle", badge: "200 OK", title: "Still good", text: "The API kept believing the old token for now; the next refresh will replace it." });
  }

  function tokenOf(seen) {
    const claims = seen.body?.caller ?? seen.body?.received?.claims ?? {};
    return claims.jti ? shorten(claims.jti) : `expiring at ${claims.exp ?? "?"}`;
  }

  async function payments(returned = false) {
    const seen = await call("/api/payments", {}, "Opened the payments");
    if (seen.status !== 200) return explain(seen);
    const rows = seen.body.payments ?? [];
    return say({
      ...badgeOf(seen), title: returned ? "Now you may" : "The payments",
      text: "The session carries the stronger sign-in. It has a new id: the one from before is worthless.",
      body: [table(rows, [["Payment", (row) => row.id], ["State", (row) => row.state], ["Amount", (row) => `${row.amount} ${row.currency}`, true]])],
    });
  }

  function stepUp(problem, seen) {
    const wanted = problem.step_up?.acr_values?.join(", ");
    const go = make("button", { type: "button", class: "primary", onclick: () => bff.stepUp(problem, { returnTo: "/?then=payments" }) }, "Confirm that it is you");
    say({ kind: "wait", badge: badgeOf(seen).badge, title: "This needs a stronger sign-in",
      text: `The answer says what is missing${wanted ? ` (${wanted})` : ""} and where to get it. Your session stays as it is, whether you go or not.`,
      body: [make("div", { class: "row" }, go)] });
  }

  async function steal() {
    const user = await exchange(bff.fetch, "/bff/user", { headers: JSON_HEADERS });
    show(user, "Attacker read /bff/user");
    const databases = (await indexedDB.databases?.()) ?? [];
    const keys = await caches.keys().catch(() => []);
    const globals = Object.keys(window).filter((name) => typeof window[name] === "string" && /^eyJ/.test(window[name]));
    const places = [
      ["document.cookie", document.cookie !== "", "the session cookie is HttpOnly"],
      ["localStorage and sessionStorage", localStorage.length + sessionStorage.length > 0, "nothing is ever kept there"],
      ["IndexedDB and Cache storage", databases.length + keys.length > 0, "nothing there either"],
      ["every global variable", globals.length > 0, "the helper has no token to give"],
      [`all ${evidence.answers} answers so far`, evidence.tokens > 0, "no JWT was in any of them"],
      ["the address bar and history", /code=|token=/.test(location.href), "code and state never stay in an address"],
    ];
    const found = places.filter(([, hit]) => hit).length;
    showSeen();
    log(found ? "!" : "–", "Looked for a token everywhere");
    say({ kind: found ? "bad" : "good", badge: found ? `${found} found` : "Nothing found", title: found ? "Something leaked" : "There is nothing to steal",
      text: "A script in this page can misuse the session while the page is open. It can't take it along.",
      body: [make("ul", { class: "checks" }, ...places.map(([place, hit, why]) => make("li", { class: hit ? "found" : null }, make("div", {}, place, " ", make("span", {}, `– ${why}`)))))] });
  }

  async function sessions() {
    const seen = await call("/bff/sessions", {}, "Listed my sessions");
    if (seen.status !== 200) return explain(seen);
    const rows = seen.body.sessions;
    const others = rows.filter((row) => !row.current).length;
    const end = make("button", { type: "button", onclick: endOthers, disabled: others === 0 }, others ? `End the other ${others}` : "No other session");
    return say({ ...badgeOf(seen), title: rows.length === 1 ? "One session" : `${rows.length} sessions`, text: "The ids are hashes: whoever reads this list can end a session, never use one.",
      body: [table(rows, [["Session", (row) => `${row.id.slice(0, 10)}…${row.current ? " (this one)" : ""}`], ["Started", (row) => moment(row.started_at)],
        ["Last seen", (row) => moment(row.seen_at)], ["Ends at the latest", (row) => moment(row.expires_at)]], (row) => row.current), make("p", { class: "row" }, end)] });
  }

  async function endOthers() {
    await call("/bff/sessions/end", { method: "POST", body: JSON.stringify({ others: true }), headers: { "content-type": "application/json" } }, "Ended my other sessions");
    await sessions();
  }

  async function everywhere() {
    const user = bff.getSnapshot().user;
    if (!user) return explain(await call("/bff/user", {}, "Asked who is signed in"));
    const form = { method: "POST", body: new URLSearchParams({ sub: user.sub }).toString(), headers: { "content-type": "application/x-www-form-urlencoded" } };
    const told = await call("/demo-provider/admin/sign-out", form, "Told the provider to sign me out everywhere");
    if (told.status !== 200) return explain(told);
    await pause(300);
    const after = await call("/api/orders", {}, "Called the API with the ended session");
    return say({ ...badgeOf(after), kind: after.status === 401 ? "good" : "bad", title: after.status === 401 ? "Signed out, everywhere" : "Still signed in?",
      text: "The provider sent a signed logout token to the token handler, which ended every session of this person. The cookie was worthless from that moment, and the refusal took it away. Open streams end within seconds." });
  }

  return { orders, place, naked, stale, payments, steal, sessions, everywhere, explain };
}
