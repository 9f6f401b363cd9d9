/**
 * The SPA's side of the backend-for-frontend: who is signed in, calls that carry the session, sign-in and sign-out.
 *
 * There is no access or refresh token in here and no way to get one: the browser holds an HttpOnly cookie that this code
 * cannot read, and the server turns it into a token on the way to the API. (The ID token of a session that has just ended
 * is in the address that `logout` goes to, as OpenID Connect wants it: a hint to the provider of who leaves.) Import it from the server that you talk to, so that the two
 * can never disagree:
 *
 *     import { createBff } from "/bff/client.js";
 *     const bff = createBff();
 *     const user = await bff.user();                    // null when nobody is signed in
 *     const orders = await bff.json("/api/orders");     // throws BffError, with the problem document
 *
 * @typedef {{ expires_in: number, expires_because: string, logout_url: string }} SessionInfo
 * @typedef {{ sub: string, session: SessionInfo, [claim: string]: unknown }} User
 * @typedef {{ status: "loading" | "anonymous" | "authenticated", user: User | null, expiresAt: number | null }} Snapshot
 * @typedef {{ type?: string, title?: string, status: number, code?: string, detail?: string, request_id?: string,
 *             login_url?: string, step_up?: { acr_values: string[], max_age: number | null, scope: string } }} Problem
 * @typedef {{ returnTo?: string, acrValues?: string | string[], maxAge?: number, prompt?: string, loginHint?: string,
 *             uiLocales?: string, scope?: string }} LoginOptions
 */

const LOADING = Object.freeze({ status: "loading", user: null, expiresAt: null });
const ANONYMOUS = Object.freeze({ status: "anonymous", user: null, expiresAt: null });
const STEP_UP = "step_up_required";
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** An answer that is not a success. `problem` is the server's problem document (RFC 9457), or a stand-in for one. */
export class BffError extends Error {
  /** @param {Problem} problem @param {Response | null} response */
  constructor(problem, response) {
    super(problem.detail || problem.title || `status ${problem.status}`);
    this.name = "BffError";
    this.problem = problem;
    this.response = response;
  }
  get status() { return this.problem.status; }
  get code() { return this.problem.code || ""; }
}

/** The problem document of an answer without using up its body, or null when it carries none. */
export async function readProblem(response) {
  if (!(response.headers.get("content-type") || "").startsWith("application/problem+json")) return null;
  try {
    return await response.clone().json();
  } catch {
    return null;
  }
}

/** Whether a problem asks for a stronger or fresher sign-in (RFC 9470) rather than for any sign-in. */
export function isStepUp(problem) {
  return Boolean(problem) && problem.status === 401 && problem.code === STEP_UP;
}

/**
 * @param {object} [options]
 * @param {string} [options.base] where the BFF's endpoints are; by default the folder this module came from
 * @param {string} [options.csrfHeader] the header that no other site can send for us
 * @param {(problem: Problem | null) => void} [options.onSignedOut] a call found the session over
 * @param {(problem: Problem) => void} [options.onStepUp] a call needs a stronger sign-in; see `stepUp`
 */
export function createBff({ base, csrfHeader = "X-CSRF", onSignedOut, onStepUp } = {}) {
  const root = (base ?? new URL(".", import.meta.url).pathname).replace(/\/$/, "");
  const listeners = new Set();
  const channel = "BroadcastChannel" in globalThis ? new BroadcastChannel(`bff:${root}`) : null;
  /** @type {Snapshot} */
  let snapshot = LOADING;
  let asking = null;
  let timer = 0;

  function set(next, { tell = false } = {}) {
    const before = snapshot;
    snapshot = next;
    clearTimeout(timer);
    if (next.expiresAt !== null) {
      const wait = Math.min(Math.max(next.expiresAt - Date.now(), 0) + 1000, LONGEST_TIMER_MS);
      timer = setTimeout(() => refreshUser().catch(() => {}), wait);
    }
    const changed = before.status !== next.status || before.user?.sub !== next.user?.sub;
    if (tell && changed && before.status !== "loading") channel?.postMessage({ status: next.status });
    for (const listener of [...listeners]) listener();
  }

  function signedOut(problem) {
    const was = snapshot.status;
    if (was !== "anonymous") set(ANONYMOUS, { tell: true });
    if (was === "authenticated") onSignedOut?.(problem);
  }

  function ownUrl(input) {
    const url = new URL(input instanceof Request ? input.url : input, location.href);
    if (url.origin !== location.origin) throw new TypeError(`bff.fetch is for ${location.origin} only`);
    return url;
  }

  /** `fetch` for this origin with the session: same arguments, same answer. A 401 of ours also moves the snapshot. */
  async function bffFetch(input, init = {}) {
    ownUrl(input);
    const headers = new Headers(init.headers ?? (input instanceof Request ? input.headers : undefined));
    headers.set(csrfHeader, "1");
    const response = await fetch(input, { redirect: "manual", ...init, headers, credentials: "same-origin" });
    if (response.status === 401) await heed(response);
    return response;
  }

  async function heed(response) {
    const problem = await readProblem(response);
    if (isStepUp(problem)) onStepUp?.(problem);
    else if (problem?.code === "unauthenticated" || problem?.code === "session_gone" || problem?.code === "grant_revoked") signedOut(problem);
  }

  /** Call and read JSON. A plain object as `body` is sent as JSON. Throws BffError for anything but a success. */
  async function json(input, init = {}) {
    const headers = new Headers(init.headers);
    if (!headers.has("accept")) headers.set("accept", "application/json");
    let { body } = init;
    if (body !== null && typeof body === "object" && Object.getPrototypeOf(body) === Object.prototype) {
      body = JSON.stringify(body);
      headers.set("content-type", "application/json");
    }
    const response = await bffFetch(input, { ...init, headers, body });
    if (!response.ok) throw await errorOf(response);
    return response.status === 204 ? null : response.json();
  }

  async function errorOf(response) {
    const problem = (await readProblem(response)) ?? { status: response.status, title: response.statusText };
    return new BffError(problem, response);
  }

  /** Ask the server who is signed in; callers at the same time share one question. Throws when there is no answer. */
  function refreshUser() {
    asking ??= askUser().finally(() => { asking = null; });
    return asking;
  }

  async function askUser() {
    const response = await fetch(`${root}/user`, {
      headers: { accept: "application/json", [csrfHeader]: "1" },
      credentials: "same-origin",
      redirect: "manual",
      cache: "no-store",
    });
    if (response.status === 401) {
      const problem = await readProblem(response);
      if (snapshot.status === "loading") set(ANONYMOUS);
      else signedOut(problem);
      return null;
    }
    if (!response.ok) throw await errorOf(response);
    const user = Object.freeze(await response.json());
    const expiresAt = Date.now() + user.session.expires_in * 1000;
    set(Object.freeze({ status: "authenticated", user, expiresAt }), { tell: true });
    return user;
  }

  /** Who is signed in, from memory when it is known there. @returns {Promise<User | null>} */
  async function user() {
    return snapshot.status === "loading" ? refreshUser() : snapshot.user;
  }

  /** Where we are, or as much of it as a sign-in takes along. */
  function here() {
    const { pathname, search, hash } = location;
    return [pathname + search + hash, pathname + search, pathname].find((place) => place.length <= 1024) ?? "/";
  }

  /** The address that starts a sign-in, for a link. @param {LoginOptions} [options] */
  function loginUrl({ returnTo = here(), acrValues, maxAge, prompt, loginHint, uiLocales, scope } = {}) {
    const query = new URLSearchParams({ return_to: returnTo });
    const wishes = { acr_values: [acrValues ?? []].flat().join(" "), max_age: maxAge, prompt, login_hint: loginHint, ui_locales: uiLocales, scope };
    for (const [name, value] of Object.entries(wishes)) {
      if (value !== undefined && value !== "") query.set(name, String(value));
    }
    return `${root}/login?${query}`;
  }

  /** Leave for the sign-in and come back to `returnTo`. A string or LoginOptions. */
  function login(wish = {}) {
    location.assign(loginUrl(typeof wish === "string" ? { returnTo: wish } : wish));
  }

  /** Leave for the stronger sign-in that a problem asked for. What was refused is not repeated: do that after coming back. */
  function stepUp(problem, { returnTo = here() } = {}) {
    const { acr_values: acrValues, max_age: maxAge, scope } = problem.step_up ?? {};
    location.assign(loginUrl({ returnTo, acrValues, maxAge: maxAge ?? undefined, scope }));
  }

  /**
   * End the session here, then at the provider, and come back to `returnTo`. `follow: false` returns the provider's address
   * instead of going there.
   */
  async function logout({ follow = true, returnTo } = {}) {
    const query = returnTo === undefined ? "" : `?${new URLSearchParams({ return_to: returnTo })}`;
    const response = await fetch(`${root}/logout${query}`, {
      method: "POST",
      headers: { accept: "application/json", [csrfHeader]: "1" },
      credentials: "same-origin",
      redirect: "manual",
    });
    if (!response.ok) throw await errorOf(response);
    const { logout_url: url } = await response.json();
    set(ANONYMOUS, { tell: true });
    if (follow) location.assign(url);
    return url;
  }

  function subscribe(listener) {
    listeners.add(listener);
    return () => listeners.delete(listener);
  }

  function heard({ data }) {
    if (data?.status === "anonymous") set(ANONYMOUS);
    else refreshUser().catch(() => {});
  }

  function seen() {
    if (document.visibilityState === "visible" && snapshot.status !== "loading") refreshUser().catch(() => {});
  }

  function shown(event) {
    if (event.persisted) refreshUser().catch(() => {});
  }

  channel?.addEventListener("message", heard);
  document.addEventListener("visibilitychange", seen);
  addEventListener("pageshow", shown);

  /** Stop listening to other tabs, the page and the clock. */
  function close() {
    channel?.close();
    clearTimeout(timer);
    document.removeEventListener("visibilitychange", seen);
    removeEventListener("pageshow", shown);
    listeners.clear();
  }

  return Object.freeze({
    base: root, fetch: bffFetch, json, user, refreshUser, login, loginUrl, logout, stepUp, subscribe, getSnapshot: () => snapshot, close,
  });
}
