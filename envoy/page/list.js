// The list of traces with its filters. The filters live in the address alone: the form shows what the address
// says, and a change of the form is a change of the address.

import * as api from "./api.js";
import {
  announce,
  chip,
  copyable,
  count,
  counted,
  duration,
  el,
  failure,
  moveFocus,
  stateMark,
  summaryMarks,
  timeElement,
} from "./ui.js";

/** Traces on one page. */
const PAGE = 50;
/** How long typing must pause before the list follows it, in milliseconds. */
const TYPING_MS = 300;
/** Time ranges to choose from: minutes and their name. */
const RANGES = [
  ["5", "last 5 minutes"],
  ["15", "last 15 minutes"],
  ["60", "last hour"],
  ["1440", "last 24 hours"],
];
/** Parameters of the address that the API takes as they are. */
const PASSED_ON = ["id", "service", "error", "min_ms", "max_ms", "from_ms", "to_ms", "state", "before"];

/** The query to the API for the parameters of the address. */
function queryOf(parameters, now) {
  const query = new URLSearchParams({ limit: String(PAGE) });
  for (const [name, value] of parameters) {
    if (PASSED_ON.includes(name) && value !== "") query.append(name, value);
  }
  const last = Number(parameters.get("last"));
  if (last > 0) query.set("from_ms", String(Math.round(now - last * 60_000)));
  return query;
}

/** Epoch milliseconds as the value of a `datetime-local` input, and back. */
const toLocal = (ms) => {
  const date = new Date(Number(ms));
  if (!ms || Number.isNaN(date.getTime())) return "";
  return new Date(date.getTime() - date.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
};
const fromLocal = (text) => (text === "" ? "" : String(new Date(text).getTime()));

function field(label, control) {
  return el("label", { class: "field" }, el("span", {}, label), control);
}

/** The form; `change` is told the new parameters. */
function filterForm(change) {
  const service = el("select", { name: "service" });
  const state = el(
    "select",
    { name: "state" },
    ...[
      ["", "open and written"],
      ["open", "open"],
      ["written", "written"],
    ].map(([value, text]) => el("option", { value }, text)),
  );
  const range = el(
    "select",
    { name: "range" },
    ...[["", "any time"], ...RANGES, ["custom", "from … to …"]].map(([value, text]) => el("option", { value }, text)),
  );
  const number = (name) =>
    el("input", { name, type: "number", min: 0, step: "any", inputmode: "decimal", placeholder: "ms" });
  const [min, max] = [number("min_ms"), number("max_ms")];
  const [from, to] = ["from", "to"].map((name) => el("input", { name, type: "datetime-local" }));
  const id = el("input", {
    name: "id",
    type: "search",
    placeholder: "beginning is enough",
    spellcheck: "false",
    autocomplete: "off",
  });
  const error = el("input", { name: "error", type: "checkbox" });
  const clear = el(
    "button",
    { type: "button", class: "quiet", on: { click: () => change(new URLSearchParams()) } },
    "Clear filters",
  );
  const custom = el("div", { class: "filters custom", hidden: true }, field("From", from), field("To", to));
  const form = el(
    "form",
    { class: "filter-form", role: "search", "aria-label": "Filters" },
    el(
      "div",
      { class: "filters" },
      field("Service", service),
      field("Time", range),
      field("State", state),
      el("div", { class: "pair" }, field("At least", min), field("At most", max)),
      field("Trace id", id),
      el("label", { class: "check" }, error, el("span", {}, "Errors only")),
      clear,
    ),
    custom,
  );

  function read() {
    const values = {
      id: id.value.trim().toLowerCase(),
      service: service.value,
      error: error.checked ? "true" : "",
      min_ms: min.value,
      max_ms: max.value,
      state: state.value,
      last: range.value === "custom" ? "" : range.value,
      from_ms: range.value === "custom" ? fromLocal(from.value) : "",
      to_ms: range.value === "custom" ? fromLocal(to.value) : "",
      range: range.value === "custom" && !from.value && !to.value ? "custom" : "",
    };
    return new URLSearchParams(Object.entries(values).filter(([, value]) => value !== ""));
  }
  let typed = null;
  const changed = () => {
    clearTimeout(typed);
    change(read());
  };
  form.addEventListener("change", changed);
  form.addEventListener("input", (event) => {
    if (event.target.matches("select, [type=checkbox]")) return;
    clearTimeout(typed);
    typed = setTimeout(changed, TYPING_MS);
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    changed();
  });

  /** Writes a value unless that would disturb somebody who is typing it. */
  const put = (input, value) => {
    if (document.activeElement !== input) input.value = value;
  };
  function write(parameters) {
    const get = (name) => parameters.get(name) ?? "";
    const bounded = get("from_ms") !== "" || get("to_ms") !== "" || get("range") === "custom";
    put(min, get("min_ms"));
    put(max, get("max_ms"));
    put(id, get("id"));
    put(from, toLocal(get("from_ms")));
    put(to, toLocal(get("to_ms")));
    error.checked = get("error") === "true";
    state.value = get("state");
    withOption(range, bounded ? "custom" : get("last"), (minutes) => `last ${minutes} minutes`);
    custom.hidden = !bounded;
    withOption(service, get("service"), (name) => name);
    clear.hidden = [...parameters.keys()].every((name) => name === "before");
  }
  let offered = null;
  function offer(names) {
    // An open drop-down would close when its options are replaced.
    if (offered === names.join("\n")) return;
    offered = names.join("\n");
    const chosen = service.value;
    service.replaceChildren(
      el("option", { value: "" }, "any"),
      ...names.map((name) => el("option", { value: name }, name)),
    );
    withOption(service, chosen, (name) => name);
  }
  offer([]);
  return { form, write, offer, focus: () => service.focus() };
}

/** Chooses an option, which an address may name although it is not on offer. */
function withOption(select, value, text) {
  if (![...select.options].some((option) => option.value === value))
    select.append(el("option", { value }, text(value)));
  select.value = value;
}

/** One row: its element, and a function that shows a summary in it. */
function makeRow() {
  const link = el("a", { class: "trace-link" });
  const tags = el("div", { class: "tags" });
  const bar = el("span", { class: "trace-bar" });
  const length = el("span", { class: "number" });
  const start = el("div", { class: "trace-start" });
  const spans = el("div", { class: "trace-spans" });
  const item = el(
    "li",
    { class: "trace-row" },
    el("div", { class: "trace-main" }, link, tags),
    el("div", { class: "trace-duration" }, el("span", { class: "trace-track", "aria-hidden": true }, bar), length),
    start,
    spans,
  );
  let shown = "";

  function update(summary, longest) {
    bar.style.width = `${longest > 0 ? Math.max(1, (100 * summary.duration_ms) / longest) : 1}%`;
    const text = JSON.stringify(summary);
    if (text === shown) return;
    shown = text;
    const root = summary.root;
    Object.assign(item.dataset, { traceId: summary.trace_id, session: summary.session, state: summary.state });
    item.classList.toggle("failed", summary.errors > 0);
    link.href = `#/trace/${encodeURIComponent(summary.trace_id)}`;
    link.replaceChildren(root ? root.name : `trace ${summary.trace_id}`);
    tags.replaceChildren(...[...summary.services.map(chip), ...summaryMarks(summary)].filter(Boolean));
    length.textContent = duration(summary.duration_ms);
    start.replaceChildren(timeElement(summary.start_ms), stateMark(summary) ?? "");
    spans.textContent = counted(summary.spans, "span");
  }
  // The whole row is a target for the mouse; the keyboard has the link.
  item.addEventListener("click", (event) => {
    if (event.target.closest("a, button") === null && String(getSelection()) === "") link.click();
  });
  return { item, link, update };
}

/** What is shown when there is nothing to show. */
function emptyState(filtered, clear) {
  if (filtered) {
    return el(
      "section",
      { class: "empty" },
      el("h2", {}, "No trace matches these filters"),
      el("button", { type: "button", on: { click: clear } }, "Clear filters"),
    );
  }
  const code = (text) => el("p", {}, copyable(text, "command"));
  return el(
    "section",
    { class: "empty" },
    el("h2", {}, "No traces yet"),
    el(
      "p",
      {},
      "A trace appears here as soon as its first span arrives. While the demo runs, send a request through its gateway:",
    ),
    code("curl http://127.0.0.1:18080/checkout/1"),
    code("curl http://127.0.0.1:18080/checkout/declined"),
    el("p", {}, "A proxy or program of your own sends its spans to"),
    el(
      "dl",
      { class: "facts" },
      el("dt", {}, "Trace API"),
      el("dd", {}, el("code", {}, `${location.origin}/trace/v1`)),
      el("dt", {}, "OTLP over HTTP"),
      el("dd", {}, el("code", {}, `${location.origin}/v1/traces`)),
    ),
  );
}

/** The view: a heading, the filters, the rows and the pages. */
export function listView(main) {
  document.title = "Traces";
  let parameters = new URLSearchParams();
  let latest = null;
  const rows = new Map();

  const address = (next) => (next.size > 0 ? `#/traces?${next}` : "#/traces");
  // A change of a filter takes the place of the address before it, so that one step back leaves the list.
  const change = (next) => location.replace(address(next));
  const filters = filterForm(change);
  const total = el("span", { class: "muted", id: "total" });
  const list = el("ol", { class: "traces", "aria-label": "Traces, newest first" });
  const columns = el(
    "div",
    { class: "trace-columns", "aria-hidden": true },
    el("span", {}, "Trace"),
    el("span", {}, "Duration"),
    el("span", {}, "Start"),
    el("span", {}, "Spans"),
  );
  const around = el("div", {});
  const newest = el("a", { class: "button" }, "← Newest");
  const older = el("a", { class: "button", rel: "next" }, "Older →");
  const pages = el("nav", { class: "pages", "aria-label": "Pages" }, newest, older);
  main.append(
    el("div", { class: "heading" }, el("h1", {}, "Traces"), total),
    filters.form,
    around,
    columns,
    list,
    pages,
  );

  function showRows(traces) {
    const longest = Math.max(0, ...traces.map((summary) => summary.duration_ms));
    const keys = new Set(traces.map(keyOf));
    for (const [key, row] of rows) {
      if (keys.has(key)) continue;
      row.item.remove();
      rows.delete(key);
    }
    const first = rows.size === 0;
    traces.forEach((summary, index) => {
      const key = keyOf(summary);
      const row = rows.get(key) ?? makeRow();
      if (!rows.has(key)) row.item.classList.toggle("fresh", !first);
      rows.set(key, row);
      row.update(summary, longest);
      // Only a row that is out of place is moved: moving takes the focus away.
      if (list.children[index] !== row.item) list.insertBefore(row.item, list.children[index] ?? null);
    });
  }

  function showPages(next) {
    const without = new URLSearchParams(parameters);
    without.delete("before");
    newest.hidden = !parameters.has("before");
    newest.href = address(without);
    older.hidden = next === null;
    without.set("before", next ?? "");
    older.href = address(without);
    pages.hidden = newest.hidden && older.hidden;
  }

  function showPage({ traces, next }) {
    const open = traces.filter((summary) => summary.state === "open").length;
    const filtered = [...parameters.keys()].length > 0;
    const empty = traces.length === 0;
    showRows(traces);
    showPages(next);
    list.hidden = columns.hidden = empty;
    const shown = empty ? String(filtered) : "";
    if (around.dataset.empty !== shown) {
      around.replaceChildren(...(empty ? [emptyState(filtered, () => change(new URLSearchParams()))] : []));
    }
    around.dataset.empty = shown;
    total.textContent = empty
      ? ""
      : `${count(traces.length)}${next === null ? "" : "+"} shown${open > 0 ? `, ${open} open` : ""}`;
  }

  const refresh = api.oneAtATime(async () => {
    const asked = parameters;
    try {
      const [page, known] = await Promise.all([api.traces(queryOf(asked, Date.now())), api.services()]);
      if (asked !== parameters) return;
      filters.offer(known.services);
      showPage(page);
    } catch (error) {
      if (asked === parameters) around.replaceChildren(failure(error));
      delete around.dataset.empty;
    }
    list.setAttribute("aria-busy", "false");
  });

  function key(event) {
    if (event.key === "/") {
      filters.focus();
      return true;
    }
    if (!["ArrowDown", "ArrowUp", "Home", "End", "j", "k"].includes(event.key)) return false;
    return moveFocus([...list.querySelectorAll(".trace-link")], event.key);
  }

  return {
    update(next) {
      const text = String(next);
      parameters = next;
      filters.write(next);
      list.setAttribute("aria-busy", "true");
      if (latest !== null && latest !== text) announce("The list changes.");
      latest = text;
      refresh();
    },
    refresh,
    key,
  };
}

const keyOf = (summary) => `${summary.trace_id}/${summary.session}`;
