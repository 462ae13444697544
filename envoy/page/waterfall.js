// One trace: its summary, the waterfall of its spans, the attributes of a span, and the headers of each hop.
//
// The waterfall is a treegrid as WAI-ARIA describes it: one row is reachable by Tab, the arrow keys do the rest.
// https://www.w3.org/WAI/ARIA/apg/patterns/treegrid/

import * as api from "./api.js";
import {
  announce,
  chip,
  colour,
  copyable,
  copyButton,
  counted,
  duration,
  el,
  failure,
  mark,
  stateMark,
  time,
  timeElement,
} from "./ui.js";

/** How a span kind is written. */
const KINDS = { service: "service", datastore: "datastore", external: "external", in_process: "in-process" };
/** Width of one level of the tree and of all of them together at most, in pixels. */
const STEP = { most: 14, all: 260 };
/** Steps narrower than this, in pixels, have no lines. */
const STEP_WITH_LINE = 4;
/** About how many lines the time axis has. */
const TICKS = 5;

/** The spans as rows in the order of the tree: each with its level, parent row and children. */
function treeOf(spans) {
  const byId = new Map();
  const rows = spans.map((span) => ({ span, level: 1, parent: null, children: [], descendants: 0 }));
  for (const row of rows) {
    // The API gives a parent before its children, so that a parent that is not known yet is none at all.
    const parent = row.span.parent_id === null || row.span.orphan ? null : byId.get(row.span.parent_id);
    if (parent) {
      row.parent = parent;
      row.level = parent.level + 1;
      parent.children.push(row);
    }
    if (!byId.has(row.span.id)) byId.set(row.span.id, row);
  }
  for (const row of rows.toReversed()) {
    if (row.parent) row.parent.descendants += row.descendants + 1;
  }
  return rows;
}

/** The time that the waterfall covers, in epoch milliseconds. */
function extent(spans) {
  const start = spans.reduce((least, span) => Math.min(least, span.start_ms), Infinity);
  const end = spans.reduce((most, span) => Math.max(most, span.start_ms + span.duration_ms), -Infinity);
  return { start, length: Math.max(end - start, 0.001) };
}

/** Distances from the start at which the axis has lines: round numbers, in milliseconds. */
function ticks(length) {
  const power = 10 ** Math.floor(Math.log10(length / TICKS));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => length / size <= TICKS) ?? length;
  const all = [];
  for (let index = 0; index * step <= length * 0.97; index += 1) all.push(index * step);
  return all;
}

function axis(length) {
  return ticks(length).map((at) => {
    const tick = el("span", { class: "tick" }, at === 0 ? "0" : duration(at));
    tick.style.left = `${(100 * at) / length}%`;
    return tick;
  });
}

function gridLines(length) {
  return ticks(length).map((at) => {
    const line = el("span", { class: "grid-line" });
    line.style.left = `${(100 * at) / length}%`;
    return line;
  });
}

/** What else there is to say about a span, each in words. */
function spanMarks(row, lateSessions) {
  const { span, parent } = row;
  return [
    span.boundary &&
      parent &&
      mark("boundary", `↪ from ${parent.span.service}`, "Process boundary: the parent belongs to another service."),
    span.error !== null && mark("error", span.error === "" ? "error" : `error: ${span.error}`),
    span.orphan && mark("warn", `orphan: parent ${span.parent_id} is not in the data`),
    lateSessions.has(span.session) &&
      mark("warn", "late", "Came after an earlier session of this trace had been closed."),
  ];
}

/** The element of one span. */
function rowElement(row, { start, length }, lateSessions, toggle) {
  const { span } = row;
  const twisty = el("button", { type: "button", class: "twisty", tabindex: -1, "aria-hidden": true });
  twisty.addEventListener("click", (event) => {
    event.stopPropagation();
    toggle(row);
  });
  const bar = el("span", { class: `bar bar-${span.display}` });
  bar.style.left = `${(100 * (span.start_ms - start)) / length}%`;
  bar.style.width = `${(100 * span.duration_ms) / length}%`;
  const siblings = row.parent?.children ?? [];
  const element = el(
    "div",
    {
      role: "row",
      class: `span-row ${colour(span.service)}`,
      tabindex: -1,
      "aria-level": row.level,
      "aria-posinset": siblings.length > 0 ? siblings.indexOf(row) + 1 : null,
      "aria-setsize": siblings.length || null,
      "aria-selected": "false",
      "data-span-id": span.id,
      "data-parent-id": row.parent?.span.id ?? "",
      "data-kind": span.display,
      "data-boundary": span.boundary,
      "data-error": span.error !== null,
      "data-orphan": span.orphan,
    },
    el(
      "div",
      { role: "gridcell", class: "span-cell" },
      twisty,
      el(
        "div",
        { class: "span-text" },
        el("div", { class: "span-name" }, span.name),
        el(
          "div",
          { class: "tags" },
          el("span", { class: `kind kind-${span.display}` }, KINDS[span.display] ?? span.display),
          chip(span.service),
          ...spanMarks(row, lateSessions),
          el("span", { class: "inside" }),
        ),
      ),
    ),
    el("div", { role: "gridcell", class: "span-duration" }, duration(span.duration_ms)),
    el(
      "div",
      { role: "gridcell", class: "span-track", "aria-label": `starts at ${duration(span.start_ms - start)}` },
      ...gridLines(length),
      bar,
    ),
  );
  element.style.setProperty("--level", String(row.level - 1));
  if (row.children.length > 0) element.setAttribute("aria-expanded", "true");
  return element;
}

/** The treegrid with its keys. `open` is told which row's attributes to show, and whether a key asked for it. */
function waterfall(open) {
  const head = el("div", { role: "row", class: "span-head" });
  const body = el("div", { role: "rowgroup" });
  const grid = el(
    "div",
    { role: "treegrid", class: "waterfall", "aria-label": "Spans of the trace" },
    el("div", { role: "rowgroup" }, head),
    body,
  );
  let rows = [];
  let closed = new Set();
  let selected = null;

  const visible = () => rows.filter((row) => !row.element.hidden);
  const focused = () => rows.find((row) => row.element === document.activeElement);

  function layOut() {
    // A parent comes before its children, so that it is known by then whether it is hidden itself.
    for (const { element, span, parent, children, descendants } of rows) {
      element.hidden = parent !== null && (parent.element.hidden || closed.has(parent.span.id));
      if (children.length === 0) continue;
      element.setAttribute("aria-expanded", String(!closed.has(span.id)));
      element.querySelector(".inside").textContent = closed.has(span.id) ? `+ ${counted(descendants, "span")}` : "";
    }
  }

  function toggle(row, expand = closed.has(row.span.id)) {
    if (row.children.length === 0) return;
    if (expand) closed.delete(row.span.id);
    else closed.add(row.span.id);
    layOut();
  }

  function reachable(row) {
    for (const other of rows) other.element.tabIndex = other === row ? 0 : -1;
  }

  function focus(row) {
    if (row === undefined || row === null) return;
    reachable(row);
    row.element.focus();
    row.element.scrollIntoView({ block: "nearest" });
  }

  function left(row) {
    if (row.children.length > 0 && !closed.has(row.span.id)) toggle(row, false);
    else focus(row.parent);
  }

  function right(row) {
    if (row.children.length > 0 && closed.has(row.span.id)) toggle(row, true);
    else focus(row.children[0]);
  }

  grid.addEventListener("keydown", (event) => {
    const row = focused();
    if (row === undefined || event.ctrlKey || event.altKey || event.metaKey) return;
    const shown = visible();
    const at = shown.indexOf(row);
    const next = () => focus(shown[at + 1]);
    const previous = () => focus(shown[at - 1]);
    const actions = {
      ArrowDown: next,
      j: next,
      ArrowUp: previous,
      k: previous,
      Home: () => focus(shown[0]),
      End: () => focus(shown.at(-1)),
      ArrowLeft: () => left(row),
      ArrowRight: () => right(row),
      Enter: () => open(row, true),
      " ": () => open(row, true),
    };
    const action = actions[event.key];
    if (action === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    action();
  });

  function show(spans, lateSessions) {
    const keep = focused()?.span.id;
    const tab = rows.find((row) => row.element.tabIndex === 0)?.span.id;
    const covered = extent(spans);
    rows = treeOf(spans);
    head.replaceChildren(
      el("div", { role: "columnheader" }, "Span"),
      el("div", { role: "columnheader", class: "span-duration" }, "Duration"),
      el("div", { role: "columnheader", class: "span-axis", "aria-label": "Timeline" }, ...axis(covered.length)),
    );
    for (const row of rows) {
      row.element = rowElement(row, covered, lateSessions, toggle);
      row.element.addEventListener("click", () => {
        if (String(getSelection()) !== "") return;
        reachable(row);
        open(row, false);
      });
    }
    body.replaceChildren(...rows.map((row) => row.element));
    const deepest = rows.reduce((most, row) => Math.max(most, row.level), 1);
    const step = Math.min(STEP.most, STEP.all / deepest);
    grid.style.setProperty("--step", `${step}px`);
    grid.classList.toggle("deep", step < STEP_WITH_LINE);
    layOut();
    reachable(rows.find((row) => row.span.id === tab) ?? rows[0]);
    if (keep !== undefined) focus(rows.find((row) => row.span.id === keep));
    select(selected);
  }

  function select(id) {
    selected = id;
    for (const row of rows) row.element.setAttribute("aria-selected", String(row.span.id === id));
  }

  /** Shows a row that may be inside a closed part of the tree. */
  function reveal(id) {
    const row = rows.find((one) => one.span.id === id);
    for (let up = row?.parent ?? null; up !== null; up = up.parent) closed.delete(up.span.id);
    layOut();
    return row;
  }

  function all(expand) {
    closed = new Set(expand ? [] : rows.filter((row) => row.children.length > 0).map((row) => row.span.id));
    layOut();
    if (rows.find((row) => row.element.tabIndex === 0)?.element.hidden) reachable(rows[0]);
  }

  return { grid, show, select, reveal, all, focus: (id) => focus(reveal(id)), enter: () => focus(visible()[0]) };
}

/** A value of an attribute as text. */
const textOf = (value) => (typeof value === "string" ? value : JSON.stringify(value));

function fact(name, ...value) {
  return [el("dt", {}, name), el("dd", {}, ...value)];
}

/** The headers that one hop saw: each as it came, and decoded where that says more. */
function hopTable(hop) {
  const rows = hop.headers.map((header) => {
    const readable = header.readable && header.readable !== header.value ? header.readable : null;
    return el(
      "tr",
      {},
      el("th", { scope: "row" }, header.name),
      el(
        "td",
        {},
        readable && el("div", { class: "readable" }, readable),
        el("code", { class: readable ? "raw" : null }, header.value),
      ),
    );
  });
  return el(
    "table",
    { class: "headers" },
    el("caption", {}, chip(hop.service), " got ", el("code", {}, hop.path)),
    el("tbody", {}, ...rows),
  );
}

/** A Transaction event that the Event API took for this trace. */
function transaction(event) {
  const title = event.name ?? event.eventType ?? "event";
  const rows = Object.entries(event).sort(([one], [other]) => one.localeCompare(other));
  return el(
    "details",
    { class: "event" },
    el(
      "summary",
      {},
      `${title} `,
      event.error === true && mark("error", "error"),
      typeof event.duration === "number" && ` ${duration(event.duration * 1000)}`,
    ),
    el(
      "table",
      { class: "attributes" },
      el(
        "tbody",
        {},
        ...rows.map(([name, value]) =>
          el("tr", {}, el("th", { scope: "row" }, name), el("td", {}, el("span", { class: "value" }, textOf(value)))),
        ),
      ),
    ),
  );
}

/** The attributes of one span, beside the waterfall or, on a small screen, below it. */
function details(row, traceStart, hops, close, goTo) {
  const { span, parent } = row;
  const attributes = Object.entries(span.attributes ?? {}).sort(([one], [other]) => one.localeCompare(other));
  const roles = span.roles.map((role) => `${role.replace("_", "-")} span`).join(" and ");
  const parentLink = () =>
    el("button", { type: "button", class: "link", on: { click: () => goTo(parent.span.id) } }, parent.span.name);
  const seen = hops.filter((hop) => hop.service === span.service && span.roles.includes("entry"));
  return el(
    "aside",
    { class: `details ${colour(span.service)}`, "aria-labelledby": "details-title" },
    el(
      "div",
      { class: "details-head" },
      el("h2", { id: "details-title", tabindex: -1 }, span.name),
      el(
        "button",
        { type: "button", class: "quiet close", "aria-label": "close the attributes", on: { click: close } },
        "✕",
      ),
    ),
    span.error !== null &&
      el("p", { class: "notice notice-error" }, span.error === "" ? "error" : `error: ${span.error}`),
    el(
      "dl",
      { class: "facts" },
      fact("Service", chip(span.service)),
      fact(
        "Kind",
        [KINDS[span.display] ?? span.display, roles, span.span_kind && `span.kind ${span.span_kind}`]
          .filter(Boolean)
          .join(" · "),
      ),
      fact("Start", timeElement(span.start_ms, true), ` (${duration(span.start_ms - traceStart)} into the trace)`),
      fact("Duration", duration(span.duration_ms)),
      fact("Span id", copyable(span.id, "span id")),
      span.parent_id !== null &&
        fact(
          "Parent",
          parent ? parentLink() : "",
          " ",
          copyable(span.parent_id, "parent id"),
          span.orphan ? " not in the data" : "",
        ),
    ),
    el("h3", {}, `Attributes (${attributes.length})`),
    el(
      "table",
      { class: "attributes" },
      el(
        "tbody",
        {},
        ...attributes.map(([name, value]) =>
          el(
            "tr",
            {},
            el("th", { scope: "row" }, name),
            el(
              "td",
              {},
              el(
                "div",
                { class: "with-copy" },
                el("span", { class: "value" }, textOf(value)),
                copyButton(textOf(value), `value of ${name}`),
              ),
            ),
          ),
        ),
      ),
    ),
    seen.length > 0 && el("h3", {}, "Headers that the service saw"),
    ...seen.map(hopTable),
  );
}

/** The counters of one session, as New Relic's trace summary has them. */
function summaryStrip(summary) {
  const item = (name, value, tone) =>
    el("div", { class: `stat ${tone ?? ""}` }, el("dt", {}, name), el("dd", {}, value));
  const bad = (value, tone) => (value > 0 ? tone : null);
  return el(
    "dl",
    { class: "stats" },
    item("Trace duration", duration(summary.duration_ms)),
    item("Back-end duration", duration(summary.backend_duration_ms)),
    item("Spans", String(summary.spans)),
    item("Entry", String(summary.entry_spans)),
    item("Exit", String(summary.exit_spans)),
    item("In-process", String(summary.in_process_spans)),
    item("External", String(summary.external_spans)),
    item("Datastore", String(summary.datastore_spans)),
    item("Boundaries", String(summary.process_boundaries)),
    item("Services", String(summary.services.length)),
    item("Errors", String(summary.errors), bad(summary.errors, "stat-error")),
    item("Orphans", String(summary.orphans), bad(summary.orphans, "stat-warn")),
    item("Root", summary.missing_root ? "missing" : "there", summary.missing_root ? "stat-warn" : null),
  );
}

function sessionTitle(summary, index, all) {
  if (all.length === 1) return null;
  return el(
    "h3",
    {},
    `Session ${index + 1} of ${all.length}, from ${time(summary.first_seen_ms)}${summary.late ? ", late" : ""} `,
    stateMark(summary),
  );
}

function summaries(sessions) {
  return sessions.map((summary, index) =>
    el(
      "section",
      { class: "session", "aria-label": `Summary of session ${index + 1}` },
      sessionTitle(summary, index, sessions),
      summaryStrip(summary),
    ),
  );
}

function notices(trace) {
  const missing = trace.sessions.every((summary) => summary.missing_root);
  const orphan = trace.spans.find((span) => span.orphan);
  if (!missing) return [];
  const parent = orphan
    ? ` The first span names ${orphan.parent_id} as its parent, which has not arrived: it belongs to a caller that sends its spans elsewhere, or it was lost.`
    : "";
  return [el("p", { class: "notice notice-warn" }, `The root of this trace is missing.${parent}`)];
}

/** Colours and patterns in words. */
function legend(spans) {
  const services = [...new Set(spans.map((span) => span.service))];
  const kinds = Object.entries(KINDS).filter(([kind]) => spans.some((span) => span.display === kind));
  return el(
    "div",
    { class: "legend" },
    el("ul", { "aria-label": "Colours of the services" }, ...services.map((service) => el("li", {}, chip(service)))),
    el(
      "ul",
      { "aria-label": "Patterns of the span kinds" },
      ...kinds.map(([kind, text]) =>
        el("li", { class: "pattern" }, el("span", { class: `bar bar-${kind}`, "aria-hidden": true }), text),
      ),
    ),
  );
}

/** The title of a trace: its root, or what is known in its stead. */
function titleOf(trace) {
  const root = trace.sessions.find((summary) => summary.root)?.root;
  return root?.name ?? trace.spans[0]?.name ?? `trace ${trace.trace_id}`;
}

/** What a change of must be drawn again: everything but the time that is left. */
const fingerprint = (trace) => JSON.stringify(trace, (name, value) => (name === "closes_in_ms" ? undefined : value));

/** The view of one trace. `back` is the address of the list that led here. */
export function traceView(main, id, back) {
  document.title = `Trace ${id}`;
  const head = el("div", {});
  const around = el("div", { "aria-live": "polite" }, el("p", { class: "muted" }, "Loading …"));
  const chart = waterfall((row, byKey) => openDetails(row, byKey));
  const side = el("div", { class: "side" });
  const board = el("div", { class: "board", hidden: true }, chart.grid, side);
  const tools = el("div", { class: "tools", hidden: true });
  const hops = el("section", { class: "below hops", hidden: true, "aria-labelledby": "hops-title" });
  const events = el("section", { class: "below", hidden: true, "aria-labelledby": "events-title" });
  main.append(
    el("p", { class: "crumb" }, el("a", { href: back }, "← Traces")),
    head,
    around,
    tools,
    board,
    hops,
    events,
  );

  let trace = null;
  let shown = "";
  let wanted = null;
  let opened = null;

  const address = (span) => `#/trace/${encodeURIComponent(id)}${span ? `?span=${encodeURIComponent(span)}` : ""}`;

  function openDetails(row, byKey) {
    opened = row.span.id;
    wanted = opened;
    const { start } = extent(trace.spans);
    side.replaceChildren(details(row, start, trace.hops, closeDetails, goTo));
    board.classList.add("with-details");
    chart.select(opened);
    history.replaceState(null, "", address(opened));
    if (byKey) document.getElementById("details-title").focus();
  }

  function closeDetails() {
    const last = opened;
    opened = null;
    wanted = null;
    side.replaceChildren();
    board.classList.remove("with-details");
    chart.select(null);
    history.replaceState(null, "", address(null));
    if (last !== null) chart.focus(last);
  }

  function goTo(span) {
    const row = chart.reveal(span);
    if (!row) return;
    openDetails(row, false);
    chart.focus(span);
  }

  function showHead() {
    const sessions = trace.sessions;
    const title = titleOf(trace);
    document.title = `${title} · trace`;
    const start = sessions[0]?.start_ms ?? trace.spans[0]?.start_ms ?? 0;
    head.replaceChildren(
      el("div", { class: "heading" }, el("h1", {}, title), sessions.length === 1 ? (stateMark(sessions[0]) ?? "") : ""),
      el(
        "p",
        { class: "muted trace-id" },
        "Trace ",
        copyable(trace.trace_id, "trace id"),
        el("span", {}, " started ", timeElement(start, true)),
      ),
      ...summaries(sessions),
    );
  }

  function showTools() {
    const all = (text, expand) =>
      el("button", { type: "button", class: "quiet", on: { click: () => chart.all(expand) } }, text);
    tools.replaceChildren(
      legend(trace.spans),
      el("div", { class: "tool-buttons" }, all("Expand all", true), all("Collapse all", false)),
    );
  }

  function showHops() {
    hops.hidden = trace.hops.length === 0;
    hops.replaceChildren(
      el("h2", { id: "hops-title" }, "Headers of each hop"),
      el("p", { class: "muted" }, "What every service saw of the tracing headers, in the order of arrival."),
      ...trace.hops.map(hopTable),
    );
  }

  function showEvents() {
    const all = trace.events ?? [];
    events.hidden = all.length === 0;
    events.replaceChildren(
      el("h2", { id: "events-title" }, "Transactions"),
      el("p", { class: "muted" }, "The events of this trace that came to the Event API."),
      ...all.map(transaction),
    );
  }

  function showTrace() {
    const late = new Set(trace.sessions.filter((summary) => summary.late).map((summary) => summary.session));
    showHead();
    around.replaceChildren(...notices(trace));
    tools.hidden = board.hidden = false;
    showTools();
    chart.show(trace.spans, late);
    showHops();
    showEvents();
    if (wanted !== null && opened !== wanted) followSpan();
  }

  /** Opens the span that the address names. */
  function followSpan() {
    const row = chart.reveal(wanted);
    if (!row) return announce("The span of this address is not in the trace.");
    openDetails(row, false);
    chart.focus(wanted);
  }

  const refresh = api.oneAtATime(async () => {
    try {
      const latest = await api.trace(id);
      const text = fingerprint(latest);
      if (text === shown) return;
      if (shown !== "") announce("The trace has changed.");
      shown = text;
      trace = latest;
      showTrace();
    } catch (error) {
      if (!(error instanceof api.ApiError)) throw error;
      if (trace === null || error.status === 404) around.replaceChildren(failure(error));
    }
  });

  function key(event) {
    if (event.key === "Escape") {
      if (opened !== null) closeDetails();
      else location.hash = back;
      return true;
    }
    // Inside the attributes the arrow keys scroll.
    if (!["ArrowDown", "j", "Home"].includes(event.key) || trace === null || side.contains(document.activeElement))
      return false;
    chart.enter();
    return true;
  }

  return {
    update(parameters) {
      wanted = parameters.get("span");
      if (trace !== null && wanted !== null && wanted !== opened) followSpan();
      if (trace === null) refresh();
    },
    refresh,
    key,
  };
}
