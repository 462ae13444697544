// Elements, formats and colours that all views share.
//
// Names come from whoever sends spans. They reach the document as text nodes and attributes alone, never as
// markup, and styles are set through the object model, so that the page runs under `default-src 'self'`.

const SVG = "http://www.w3.org/2000/svg";

/** Number of colours in style.css (`.colour-0` and so on). */
const COLOURS = 12;

function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined) continue;
    if (name === "on") {
      for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    } else if (typeof value === "boolean" && !name.includes("-")) {
      element.toggleAttribute(name, value);
    } else {
      // The states of aria-… and data-… attributes are words.
      element.setAttribute(name, String(value));
    }
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** An element with attributes (`on` has listeners) and children; texts among them become text nodes. */
export const el = (tag, properties = {}, ...children) => fill(document.createElement(tag), properties, children);

/** The same for SVG. */
export const svg = (tag, properties = {}, ...children) =>
  fill(document.createElementNS(SVG, tag), properties, children);

/** Says something to those who listen rather than look. */
export function announce(text) {
  document.getElementById("announcer").textContent = text;
}

const digits = (value, most) => value.toLocaleString("en", { maximumFractionDigits: most });

/** A count, with separators. */
export const count = (value) => digits(value, 0);

/** A count with its noun. */
export const counted = (value, one, many = `${one}s`) => `${count(value)} ${value === 1 ? one : many}`;

/** A duration in the unit that suits it. */
export function duration(ms) {
  if (ms < 0.9995) return `${digits(ms * 1000, 0)} µs`;
  if (ms < 99.95) return `${digits(ms, ms < 9.995 ? 2 : 1)} ms`;
  if (ms < 999.5) return `${digits(ms, 0)} ms`;
  if (ms < 59_950) return `${digits(ms / 1000, 2)} s`;
  return `${digits(ms / 60_000, 1)} min`;
}

/** A rate per minute. */
export const rate = (perMinute) => `${digits(perMinute, perMinute < 10 ? 1 : 0)}/min`;

/** A part of a whole in percent. */
export const percent = (part, whole) => `${digits(whole > 0 ? (100 * part) / whole : 0, 1)}\u00a0%`;

const pad = (value, length) => String(value).padStart(length, "0");

function clock(date) {
  return [date.getHours(), date.getMinutes(), date.getSeconds()].map((part) => pad(part, 2)).join(":");
}

/** A point in time of the local day, with the date when that is another one. */
export function time(ms, fraction = false) {
  const date = new Date(ms);
  const text = fraction ? `${clock(date)}.${pad(date.getMilliseconds(), 3)}` : clock(date);
  if (date.toDateString() === new Date().toDateString()) return text;
  return `${date.getFullYear()}-${pad(date.getMonth() + 1, 2)}-${pad(date.getDate(), 2)} ${text}`;
}

/** The same as an element that carries the exact time. */
export function timeElement(ms, fraction) {
  const date = new Date(ms);
  const iso = Number.isNaN(date.getTime()) ? null : date.toISOString();
  return el("time", { datetime: iso, title: iso }, time(ms, fraction));
}

/** FNV-1a, so that a service has the same colour in every browser. */
function hash(text) {
  let value = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(text)) {
    value = Math.imul(value ^ byte, 0x01000193) >>> 0;
  }
  return value;
}

const colours = new Map();

/**
 * The class of a service's colour. It follows from the name; when another known service has that colour
 * already, it is the next free one, as long as there is one.
 */
export function colour(service) {
  const known = colours.get(service);
  if (known !== undefined) return `colour-${known}`;
  const taken = new Set(colours.values());
  const first = hash(service) % COLOURS;
  const order = Array.from({ length: COLOURS }, (_, step) => (first + step) % COLOURS);
  colours.set(service, order.find((index) => !taken.has(index)) ?? first);
  return colour(service);
}

/** A service's name with its colour beside it. */
export const chip = (service) =>
  el("span", { class: `chip ${colour(service)}` }, el("span", { class: "swatch", "aria-hidden": true }), service);

/** A short mark in words; `kind` is error, warn, open or plain. */
export const mark = (kind, text, title) => el("span", { class: `mark mark-${kind}`, title }, text);

/** A button that copies a text. */
export function copyButton(text, what) {
  const copy = async (event) => {
    event.stopPropagation();
    await navigator.clipboard.writeText(text);
    button.textContent = "copied";
    announce(`${what} copied`);
    setTimeout(() => (button.textContent = "copy"), 1500);
  };
  const button = el(
    "button",
    { type: "button", class: "copy", "aria-label": `copy ${what}`, on: { click: copy } },
    "copy",
  );
  return button;
}

/** An id as code with a button that copies it. */
export const copyable = (id, what) => el("span", { class: "copyable" }, el("code", {}, id), copyButton(id, what));

/** What is shown instead of a view that cannot be had. */
export const failure = (error) => el("p", { class: "notice notice-error", role: "alert" }, error.message);

/** A time that is left, which counts down by itself. */
function countdown(closesInMs) {
  const element = el("span", { class: "countdown" });
  element.dataset.until = String(performance.now() + closesInMs);
  tick(element);
  return element;
}

function tick(element) {
  const left = Math.max(0, Number(element.dataset.until) - performance.now());
  const text = `${Math.ceil(left / 1000)} s`;
  if (element.textContent !== text) element.textContent = text;
}

setInterval(() => document.querySelectorAll(".countdown").forEach(tick), 250);

/** The state of a trace: open with the time that is left, or written. */
export function stateMark(summary) {
  if (summary.state !== "open") return null;
  const title = "The session is open: it is written when no span has come for this long.";
  return el("span", { class: "mark mark-open", title }, "open · closes in ", countdown(summary.closes_in_ms ?? 0));
}

/** The marks of a trace in the list, each in words. */
export function summaryMarks(summary) {
  return [
    summary.errors > 0 &&
      mark("error", counted(summary.errors, "error"), "Spans with an attribute whose name starts with error."),
    summary.missing_root && mark("warn", "root missing", "No span without a parent has arrived."),
    // The span below a missing root is an orphan in any case.
    summary.orphans > (summary.missing_root ? 1 : 0) &&
      mark("warn", counted(summary.orphans, "orphan"), "Spans whose parent is not in the data."),
    summary.late && mark("warn", "late", "Came after an earlier session of this trace had been closed."),
  ];
}

/** Moves the focus along a list of elements for a key; says whether the key was one of these. */
export function moveFocus(elements, key) {
  const at = elements.indexOf(document.activeElement);
  const to = {
    ArrowDown: Math.min(at + 1, elements.length - 1),
    ArrowUp: at < 0 ? elements.length - 1 : Math.max(at - 1, 0),
    Home: 0,
    End: elements.length - 1,
  };
  const target = elements[to[{ j: "ArrowDown", k: "ArrowUp" }[key] ?? key]];
  target?.focus();
  target?.scrollIntoView({ block: "nearest" });
  return target !== undefined;
}
