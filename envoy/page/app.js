// The frame around the views: which one the address names, live updates, and the keys that work everywhere.
//
// Addresses are fragments: #/traces?service=cart&error=true, #/trace/<trace id>?span=<span id>, #/map?last=15.

import * as api from "./api.js";
import { listView } from "./list.js";
import { mapView } from "./map.js";
import { colour, count, counted } from "./ui.js";
import { traceView } from "./waterfall.js";

const main = document.getElementById("main");
const keys = document.getElementById("keys");

/** The view on display: its name, and what it can do (update, refresh, key, close). */
let current = null;
/** Address of the list as it was last seen, so that the way back keeps its filters. */
let listAddress = "#/traces";

function route() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?", 2);
  const [view, id] = path.split("/", 2);
  const parameters = new URLSearchParams(query);
  if (view === "trace" && id)
    return { name: `trace/${id}`, make: () => traceView(main, decodeURIComponent(id), listAddress), parameters };
  if (view === "map") return { name: "map", make: () => mapView(main), parameters };
  return { name: "traces", make: () => listView(main), parameters };
}

function show() {
  const { name, make, parameters } = route();
  if (name === "traces") listAddress = location.hash || "#/traces";
  if (current?.name !== name) {
    current?.view.close?.();
    main.replaceChildren();
    current = { name, view: make() };
    window.scrollTo(0, 0);
  }
  current.view.update(parameters);
  for (const [id, on] of [
    ["nav-traces", name !== "map"],
    ["nav-map", name === "map"],
  ]) {
    const link = document.getElementById(id);
    if (on) link.setAttribute("aria-current", name.startsWith("trace/") ? "true" : "page");
    else link.removeAttribute("aria-current");
  }
}

function describe(state) {
  const live = document.getElementById("live");
  live.dataset.state = state;
  live.textContent = { live: "live", polling: "looking every 3 s" }[state];
}

const showStatus = api.oneAtATime(async () => {
  const element = document.getElementById("status");
  try {
    const status = await api.status();
    const parts = [
      status.fault && `The store has a fault: ${status.fault}`,
      `${counted(status.open, "open trace")}, ${count(status.written)} written`,
      `${counted(status.spans_received, "span")} received`,
      status.spans_refused > 0 && `${count(status.spans_refused)} refused`,
      status.spans_evicted > 0 && `${count(status.spans_evicted)} evicted to stay within the memory limit`,
      status.sessions_recovered > 0 && `${counted(status.sessions_recovered, "session")} recovered at the start`,
      status.spans_lost > 0 && `${count(status.spans_lost)} lost at the last stop`,
      `${(status.database_bytes / 1e6).toFixed(1)} MB on disk`,
    ];
    element.textContent = parts.filter(Boolean).join(" · ");
    element.classList.toggle("bad", Boolean(status.fault));
  } catch (error) {
    element.textContent = error.message;
  }
});

function changed() {
  current?.view.refresh();
  showStatus();
}

function typing(target) {
  return target instanceof Element && target.closest("input, select, textarea") !== null;
}

function key(event) {
  if (event.ctrlKey || event.altKey || event.metaKey || keys.open) return;
  if (typing(event.target)) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  const everywhere = {
    "?": () => keys.showModal(),
    t: () => (location.hash = listAddress),
    m: () => (location.hash = "#/map"),
  };
  const action = everywhere[event.key];
  action?.();
  if (action || current.view.key?.(event)) event.preventDefault();
}

/** The fragment belongs to the router, so that the skip link moves the focus without it. */
function skip(event) {
  event.preventDefault();
  main.focus();
}

async function start() {
  // Colours are given out in the order of the names, so that every view and every visit agrees on them.
  const known = await api.services().catch(() => ({ services: [] }));
  known.services.forEach(colour);
  window.addEventListener("hashchange", show);
  document.addEventListener("keydown", key);
  document.getElementById("keys-button").addEventListener("click", () => keys.showModal());
  document.getElementById("skip").addEventListener("click", skip);
  show();
  api.follow(changed, describe);
}

start();
