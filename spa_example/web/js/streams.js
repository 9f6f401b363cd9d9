/** The two connections that stay: server-sent events and a WebSocket. Both are opened with the cookie alone. */

import { $, describe, make } from "./dom.js";
import { remember } from "./exchange.js";
import { light, log, say, showOpening, showSeen } from "./stage.js";

const KEPT = 40;

function feedInto(list) {
  return (text) => {
    remember(text);
    list.prepend(make("li", {}, text));
    while (list.children.length > KEPT) list.lastElementChild.remove();
    showSeen();
  };
}

/** The API's first message says who it thinks we are, and whether a cookie reached it. */
function showGreeting(text) {
  if (!text.startsWith('{"hello"')) return;
  const { hello, cookie_arrived: cookie } = JSON.parse(text);
  describe($("received"), [["Authorization", "Bearer eyJ… (a JWT)"], ["Cookie", cookie ? "it arrived!" : "none arrived", cookie ? "alarm" : "none"], ["sub", hello]]);
}

/** A toggle button around something that opens and closes. */
function press(button, on) {
  button.setAttribute("aria-pressed", String(on));
}

export function buildStreams() {
  let source = null;
  let socket = null;

  function events() {
    if (source) return endEvents("You closed the stream");
    const list = make("ol", { class: "feed", "aria-label": "Events" });
    const feed = feedInto(list);
    source = new EventSource("/api/ticks");
    press($("do-events"), true);
    say({ kind: "wait", badge: "Opening", title: "Event stream", text: "One request, an answer that goes on. It ends when the session ends.", body: [list] });
    source.addEventListener("open", () => {
      light("api");
      log(200, "Event stream opened", "GET /api/ticks");
      showOpening({
        request: `GET /api/ticks HTTP/1.1\nHost: ${location.host}\nAccept: text/event-stream\nCookie: added by the browser, out of this page's reach`,
        response: "HTTP/1.1 200 OK\ncontent-type: text/event-stream\n\nevents, one by one, as they happen",
        received: [["Authorization", "Bearer eyJ… (a JWT)"], ["Opened by", "EventSource: no header of ours is possible, so Sec-Fetch-Site and Origin decide", "plain"]],
      });
      say({ kind: "good", badge: "Open", title: "Event stream", text: "One request, an answer that goes on. It ends when the session ends.", body: [list] });
    });
    source.addEventListener("tick", (event) => feed(event.data));
    source.addEventListener("message", (event) => feed(event.data));
    source.addEventListener("error", () => {
      if (source?.readyState === EventSource.CLOSED) endEvents("The stream was refused");
    });
    return undefined;
  }

  function endEvents(why) {
    source?.close();
    source = null;
    press($("do-events"), false);
    log("end", why, "GET /api/ticks");
    say({ kind: "idle", badge: "Closed", title: "Event stream", text: `${why}.` });
  }

  function echo() {
    if (socket) return socket.close(1000);
    const list = make("ol", { class: "feed", "aria-label": "Messages" });
    const feed = feedInto(list);
    const input = make("input", { "aria-label": "Message", value: "Hello from a page without a token", maxlength: 200 });
    const form = make("form", { class: "row" }, input, make("button", { type: "submit", class: "primary" }, "Send"));
    const opened = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/api/echo`);
    let wasOpen = false;
    socket = opened;
    press($("do-socket"), true);
    say({ kind: "wait", badge: "Opening", title: "WebSocket", text: "A handshake carries no header of ours: its Origin must be exactly this one." });
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (opened.readyState !== WebSocket.OPEN) return;
      opened.send(input.value);
      feed(`→ ${input.value}`);
    });
    opened.addEventListener("open", () => {
      wasOpen = true;
      light("api");
      log(101, "WebSocket opened", "GET /api/echo");
      showOpening({
        request: `GET /api/echo HTTP/1.1\nHost: ${location.host}\nConnection: Upgrade\nUpgrade: websocket\nOrigin: ${location.origin}\nCookie: added by the browser, out of this page's reach`,
        response: "HTTP/1.1 101 Switching Protocols\nconnection: Upgrade\nupgrade: websocket",
        received: [["Authorization", "Bearer eyJ… (a JWT)"], ["Asked for by", "an Origin that is exactly ours", "plain"]],
      });
      say({ kind: "good", badge: "101 Open", title: "WebSocket", text: "A handshake carries no header of ours: its Origin must be exactly this one.", body: [form, list] });
      opened.send(input.value);
      feed(`→ ${input.value}`);
    });
    opened.addEventListener("message", (event) => {
      feed(`← ${event.data}`);
      showGreeting(event.data);
    });
    opened.addEventListener("close", (event) => {
      socket = null;
      press($("do-socket"), false);
      log(wasOpen ? "end" : 401, wasOpen ? `WebSocket closed (${event.code})` : "WebSocket was not opened", "GET /api/echo");
      const why = wasOpen ? `It was closed with code ${event.code}.` : "The handshake was refused: without a session there is no connection.";
      say({ kind: wasOpen ? "idle" : "bad", badge: wasOpen ? "Closed" : "Refused", title: "WebSocket", text: why });
    });
    return undefined;
  }

  return { events, echo };
}
