// Run by test_client_js.py: the helper in Node, with a browser made of a few lines.
import assert from "node:assert/strict";
import { test } from "node:test";
import { pathToFileURL } from "node:url";

const calls = [];
let answers = [];
const visited = [];
const target = () => ({ addEventListener() {}, removeEventListener() {} });
globalThis.document = { ...target(), visibilityState: "visible" };
globalThis.addEventListener = () => {};
globalThis.removeEventListener = () => {};
globalThis.location = { href: "https://app.test/orders?x=1#top", origin: "https://app.test", pathname: "/orders", search: "?x=1", hash: "#top", assign: (url) => visited.push(url) };
globalThis.fetch = async (input, init) => {
  calls.push([String(input), init]);
  return answers.shift() ?? new Response("{}", { headers: { "content-type": "application/json" } });
};

const { createBff, BffError, isStepUp } = await import(pathToFileURL(process.env.CLIENT_JS).href);
const problem = (status, code, more = {}) =>
  new Response(JSON.stringify({ status, code, ...more }), { status, headers: { "content-type": "application/problem+json; charset=utf-8" } });
const user = (sub) => new Response(JSON.stringify({ sub, session: { expires_in: 60, expires_because: "idle", logout_url: "/bff/logout" } }));
const build = (options = {}) => {
  calls.length = visited.length = 0;
  answers = [];
  return createBff({ base: "/bff", ...options });
};

test("a call carries the header, this origin's cookie and follows no redirect", async () => {
  const bff = build();
  await bff.fetch("/api/x", { method: "POST", headers: { a: "b" } });
  const [, init] = calls[0];
  assert.equal(init.headers.get("x-csrf"), "1");
  assert.equal(init.headers.get("a"), "b");
  assert.equal(init.credentials, "same-origin");
  assert.equal(init.redirect, "manual");
  bff.close();
});

test("another origin is never called, however it is spelled", async () => {
  const bff = build();
  for (const url of ["https://evil.test/", "//evil.test/x", "\\\\evil.test", new Request("https://evil.test/")]) {
    await assert.rejects(bff.fetch(url), TypeError);
  }
  assert.equal(calls.length, 0);
  bff.close();
});

test("questions at the same time are one question", async () => {
  const bff = build();
  answers = [user("a")];
  const [one, two] = await Promise.all([bff.refreshUser(), bff.user()]);
  assert.equal(one.sub, "a");
  assert.equal(one, two);
  assert.equal(calls.length, 1);
  assert.equal(bff.getSnapshot().status, "authenticated");
  bff.close();
});

test("a snapshot stays the same object until something changes", async () => {
  const bff = build();
  answers = [user("a")];
  await bff.user();
  assert.equal(bff.getSnapshot(), bff.getSnapshot());
  bff.close();
});

test("our 401 signs out and says so once; an API's own 401 does not", async () => {
  const told = [];
  const bff = build({ onSignedOut: (found) => told.push(found.code) });
  answers = [user("a"), new Response("no", { status: 401 }), problem(401, "unauthenticated"), problem(401, "unauthenticated")];
  await bff.user();
  await bff.fetch("/api/x");
  assert.equal(bff.getSnapshot().status, "authenticated");
  await bff.fetch("/api/x");
  await bff.fetch("/api/x");
  assert.equal(bff.getSnapshot().status, "anonymous");
  assert.deepEqual(told, ["unauthenticated"]);
  bff.close();
});

test("a call for a stronger sign-in keeps the session and leads to the login that was asked for", async () => {
  const asked = [];
  const bff = build({ onStepUp: (found) => asked.push(found) });
  answers = [user("a"), problem(401, "step_up_required", { step_up: { acr_values: ["gold", "mfa"], max_age: 0, scope: "" } })];
  await bff.user();
  await bff.fetch("/api/x");
  assert.equal(bff.getSnapshot().status, "authenticated");
  assert.ok(isStepUp(asked[0]));
  bff.stepUp(asked[0], { returnTo: "/pay" });
  assert.equal(visited[0], "/bff/login?return_to=%2Fpay&acr_values=gold+mfa&max_age=0");
  bff.close();
});

test("a login comes back to where it began", () => {
  const bff = build();
  bff.login();
  assert.equal(visited[0], "/bff/login?return_to=%2Forders%3Fx%3D1%23top");
  bff.close();
});

test("of a place too long to take along a sign-in takes what fits", () => {
  const bff = build();
  const { location } = globalThis;
  const at = (place) => Object.assign(location, { pathname: "/a", search: "", hash: "" }, place);
  const went = (place) => (at(place), bff.login(), new URL(visited.at(-1), "https://app.test").searchParams.get("return_to"));
  assert.equal(went({ hash: "#" + "h".repeat(1021) }).length, 1024);
  assert.equal(went({ search: "?x", hash: "#" + "h".repeat(1024) }), "/a?x");
  assert.equal(went({ search: "?" + "x".repeat(1024) }), "/a");
  assert.equal(went({ pathname: "/" + "p".repeat(1024) }), "/");
  at({ pathname: "/orders", search: "?x=1", hash: "#top" });
  bff.close();
});

test("json sends and reads objects and throws the problem", async () => {
  const bff = build();
  answers = [new Response('{"ok":1}', { status: 201 }), problem(403, "insufficient_scope", { detail: "no" })];
  assert.deepEqual(await bff.json("/api/x", { method: "POST", body: { a: 1 } }), { ok: 1 });
  assert.equal(calls[0][1].body, '{"a":1}');
  await assert.rejects(bff.json("/api/x"), (error) => error instanceof BffError && error.code === "insufficient_scope" && error.status === 403);
  bff.close();
});

test("no answer is no sign-out", async () => {
  const bff = build();
  answers = [user("a"), problem(503, "store_unavailable")];
  await bff.user();
  await assert.rejects(bff.refreshUser(), BffError);
  assert.equal(bff.getSnapshot().status, "authenticated");
  bff.close();
});

test("logout posts, forgets, and goes where the server says", async () => {
  const bff = build();
  answers = [user("a"), new Response('{"logout_url":"https://id.test/end"}'), new Response('{"logout_url":"/bye"}')];
  await bff.user();
  await bff.logout();
  assert.equal(calls[1][1].method, "POST");
  assert.equal(calls[1][0], "/bff/logout");
  assert.deepEqual(visited, ["https://id.test/end"]);
  assert.equal(bff.getSnapshot().status, "anonymous");
  assert.equal(await bff.logout({ follow: false, returnTo: "/bye" }), "/bye");
  assert.equal(calls[2][0], "/bff/logout?return_to=%2Fbye");
  bff.close();
});
