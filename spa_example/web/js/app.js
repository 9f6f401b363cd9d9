/** Harbour Orders: the page of the example. It wires buttons to calls and follows who is signed in. */

import { createBff } from "/bff/client.js";
import { buildCalls } from "./calls.js";
import { $, clock } from "./dom.js";
import { log, say, showKnown, showSeen } from "./stage.js";
import { buildStreams } from "./streams.js";

const PEOPLE = { Ada: "ada", Ben: "ben", Chloe: "chloe" };

const bff = createBff({
  onSignedOut: () => log("–", "The session is over"),
});
const calls = buildCalls(bff);
const streams = buildStreams();

function showAccount() {
  const { status, user, expiresAt } = bff.getSnapshot();
  const name = String(user?.name ?? user?.sub ?? "");
  const person = PEOPLE[name.split(" ")[0]];
  $("account").dataset.status = status;
  $("who").textContent = status === "loading" ? "…" : name || "Not signed in";
  $("face").className = `face ${person ?? ""}`;
  $("face").textContent = name.split(" ").map((word) => word[0] ?? "").slice(0, 2).join("").toUpperCase();
  $("sign-in").hidden = status !== "anonymous";
  $("sign-out").hidden = status !== "authenticated";
  for (const button of $("people").children) button.setAttribute("aria-current", String(button.dataset.person === person));
  showTime(expiresAt, user);
  showKnown(user);
}

function showTime(expiresAt, user) {
  const left = expiresAt === null ? null : (expiresAt - Date.now()) / 1000;
  $("until").textContent = left === null ? "" : `session ends in ${clock(left)} (${user.session.expires_because})`;
}

let last = Promise.resolve();

/** After whatever was asked for before: the headline always belongs to the last thing pressed. */
function inTurn(action) {
  const mine = last.then(action);
  last = mine.catch(() => {});
  return mine;
}

/** Run an action once at a time, its button busy meanwhile. Leaving the page need not wait its turn. */
function act(button, action, { leaves = false } = {}) {
  return async (event) => {
    event.preventDefault();
    if (button.getAttribute("aria-busy") === "true") return;
    button.setAttribute("aria-busy", "true");
    try {
      await (leaves ? action() : inTurn(action));
    } catch (error) {
      log("!", `No answer: ${error.message}`);
      say({ kind: "bad", badge: "No answer", title: "The server did not answer", text: "Is the demo still running? Nothing is lost: try again." });
    } finally {
      button.removeAttribute("aria-busy");
    }
  };
}

function wire() {
  const buttons = {
    "do-orders": calls.orders, "do-naked": calls.naked, "do-stale": calls.stale, "do-payments": () => calls.payments(), "do-steal": calls.steal,
    "do-sessions": calls.sessions, "do-everywhere": calls.everywhere, "do-events": streams.events, "do-socket": streams.echo,
  };
  const exits = { "do-logout": () => bff.logout(), "sign-out": () => bff.logout(), "sign-in": () => bff.login({ returnTo: "/" }) };
  for (const [id, action] of Object.entries(buttons)) $(id).addEventListener("click", act($(id), action));
  for (const [id, action] of Object.entries(exits)) $(id).addEventListener("click", act($(id), action, { leaves: true }));
  $("do-post").addEventListener("submit", act($("do-post"), () => calls.place($("do-post"))));
  for (const button of $("people").children) {
    const person = button.dataset.person;
    button.addEventListener("click", act(button, () => bff.login({ returnTo: "/", loginHint: person, prompt: "login" }), { leaves: true }));
  }
}

async function start() {
  wire();
  showSeen();
  bff.subscribe(showAccount);
  setInterval(() => showTime(bff.getSnapshot().expiresAt, bff.getSnapshot().user), 1000);
  const user = await bff.user();
  log(user ? 200 : 401, user ? `Signed in as ${user.name ?? user.sub}` : "Nobody is signed in", "GET /bff/user");
  const then = new URLSearchParams(location.search).get("then");
  if (location.search) history.replaceState(null, "", location.pathname);
  if (then === "payments") return calls.payments(true);
  return user ? calls.orders() : welcome();
}

function welcome() {
  say({ kind: "idle", badge: "Signed out", title: "Nobody is signed in here",
    text: "Choose Ada, Ben or Chloe on the left: the provider will ask you on its own site. Or call the API right away and see what a stranger gets." });
}

inTurn(start).catch((error) => {
  showAccount();
  log("!", error.message);
  say({ kind: "bad", badge: "No answer", title: "The token handler did not answer", text: error.message });
});
