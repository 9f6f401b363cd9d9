/** Small tools for building pages from values. Text is always text: nothing here parses HTML. */

export const $ = (id) => document.getElementById(id);

/** An element: `make("li", { class: "x", onclick: f }, "text", child)`. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== undefined && value !== null) element.setAttribute(name, String(value));
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** A table with a caption for screen readers. `columns`: [title, value of row, numeric?]. */
export function table(rows, columns, isFresh = () => false) {
  const cell = (tag, text, numeric) => make(tag, { class: numeric ? "number" : null, scope: tag === "th" ? "col" : null }, text);
  const head = make("tr", {}, ...columns.map(([title, , numeric]) => cell("th", title, numeric)));
  const body = rows.map((row) =>
    make("tr", { class: isFresh(row) ? "fresh" : null }, ...columns.map(([, read, numeric]) => cell("td", read(row), numeric))));
  return make("div", { class: "scroll" }, make("table", {}, make("thead", {}, head), make("tbody", {}, ...body)));
}

/** Rows of a description list; a row is [term, value, class]. */
export function describe(list, rows) {
  list.replaceChildren(...rows.map(([term, value, kind]) =>
    make("div", {}, make("dt", {}, term), make("dd", { class: kind ?? null }, value))));
}

/** Seconds as a clock would say them: 1:05, 29:41, 11:59:00. */
export function clock(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const parts = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const shown = parts[0] ? parts : parts.slice(1);
  return shown.map((part, index) => (index ? String(part).padStart(2, "0") : part)).join(":");
}

/** A moment of today, or the date with it. */
export function moment(epochSeconds) {
  return new Date(epochSeconds * 1000).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
}
