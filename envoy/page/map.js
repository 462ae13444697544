// The service map: who calls whom, as a drawing and as tables of the same facts.
//
// The layout is layered. Every node stands one layer behind the last of its callers, edges that would close a cycle
// left out; a few passes then bring neighbours close to each other. Layers go from left to right, or from top to
// bottom where the screen is narrow.

import * as api from "./api.js";
import { chip, colour, count, counted, duration, el, failure, percent, rate, svg } from "./ui.js";

/** Time windows to choose from: minutes and their name. */
const WINDOWS = [
  ["5", "last 5 minutes"],
  ["15", "last 15 minutes"],
  ["60", "last hour"],
  ["1440", "last 24 hours"],
  ["", "all that is kept"],
];
/** Size of a node and the distances around it, in pixels. */
const NODE = { width: 136, height: 108 };
const GAP = { least: 92, most: 170, aside: 26, down: 84 };
/** Room across the layers that an edge gets where it passes a layer, in pixels. */
const LANE = 34;
/** Height of the callers' node, which has no numbers, in pixels. */
const CALLER_HEIGHT = 56;
/** Room for an edge that leads back around the outside, in pixels. */
const DETOUR = 60;
/** Passes over the layers that bring neighbours together. */
const PASSES = 4;
/** Narrower than this, in pixels, the map goes from top to bottom. */
const NARROW = 720;
/** What a node is, in words. */
const KINDS = {
  service: "service",
  datastore: "datastore",
  external: "external service",
  caller: "outside the traces",
};

/** The layer of each node, by id: callers first, everything else behind all who call it. */
function layersOf(nodes, edges) {
  const targets = new Map(nodes.map((node) => [node.id, []]));
  for (const { from, to } of edges) {
    if (from !== to && targets.has(to)) targets.get(from)?.push(to);
  }
  const called = new Set(edges.filter(({ from, to }) => from !== to).map((edge) => edge.to));
  const starts = [...nodes.filter((node) => !called.has(node.id)), ...nodes];
  const order = forwards(
    starts.map((node) => node.id),
    targets,
  );
  const layers = new Map(order.map((id) => [id, 0]));
  const place = new Map(order.map((id, index) => [id, index]));
  for (const id of order) {
    for (const to of targets.get(id)) {
      // An edge that leads back in this order closes a cycle and moves nobody.
      if (place.get(to) > place.get(id)) layers.set(to, Math.max(layers.get(to), layers.get(id) + 1));
    }
  }
  return layers;
}

/** The nodes in an order in which every edge leads forwards, but for those that close a cycle. */
function forwards(starts, targets) {
  const seen = new Set();
  const order = [];
  for (const start of starts) {
    if (seen.has(start)) continue;
    seen.add(start);
    const path = [{ id: start, next: 0 }];
    while (path.length > 0) {
      const top = path.at(-1);
      const to = targets.get(top.id)[top.next];
      top.next += 1;
      if (to === undefined) order.unshift(path.pop().id);
      else if (!seen.has(to)) {
        seen.add(to);
        path.push({ id: to, next: 0 });
      }
    }
  }
  return order;
}

/**
 * The nodes of each layer, and for each edge what it passes on its way: its two ends and, in every layer between
 * them, a lane of its own, so that it does not run through other nodes.
 */
function columnsOf(nodes, edges) {
  const layers = layersOf(nodes, edges);
  const columns = [];
  const put = (item, layer) => (columns[layer] ??= []).push(item);
  for (const node of nodes) put({ id: node.id, lane: false }, layers.get(node.id));
  const ways = edges.map((edge, index) => {
    const way = [edge.from];
    for (let layer = layers.get(edge.from) + 1; layer < layers.get(edge.to); layer += 1) {
      const id = `lane ${index} ${layer}`;
      put({ id, lane: true }, layer);
      way.push(id);
    }
    return [...way, edge.to];
  });
  const near = neighbours(ways);
  for (let pass = 0; pass < PASSES; pass += 1) {
    for (const column of pass % 2 === 0 ? columns : columns.toReversed()) sortByNeighbours(column, columns, near);
  }
  return { columns, ways };
}

function neighbours(ways) {
  const near = new Map();
  const link = (one, other) => near.set(one, [...(near.get(one) ?? []), other]);
  for (const way of ways) {
    way.slice(1).forEach((to, index) => {
      link(way[index], to);
      link(to, way[index]);
    });
  }
  return near;
}

function sortByNeighbours(column, columns, near) {
  const place = new Map(columns.flatMap((one) => one.map(({ id }, index) => [id, index - one.length / 2])));
  const wish = new Map(
    column.map(({ id }) => {
      const places = (near.get(id) ?? []).map((other) => place.get(other));
      return [id, places.length > 0 ? mean(places) : place.get(id)];
    }),
  );
  column.sort((one, other) => wish.get(one.id) - wish.get(other.id));
}

/** Where every node and lane stands, and how large the drawing is. */
function layOut(nodes, edges, room) {
  const { columns, ways } = columnsOf(nodes, edges);
  const down = room < NARROW;
  const [thick, wide] = down ? [NODE.height, NODE.width] : [NODE.width, NODE.height];
  const spare = (room - columns.length * thick) / Math.max(1, columns.length - 1);
  const step = thick + (down ? GAP.down : Math.min(GAP.most, Math.max(GAP.least, spare)));
  const across = placesAcross(columns, ways, (item) => (item.lane ? LANE : wide));
  const low = Math.min(...across.values()) - wide / 2;
  const breadth = Math.max(...across.values()) + wide / 2 - low;
  const positions = new Map(
    columns.flatMap((column, layer) =>
      column.map(({ id }) => {
        const [one, other] = [layer * step + thick / 2, across.get(id) - low];
        return [id, down ? { x: other, y: one } : { x: one, y: other }];
      }),
    ),
  );
  const along = (columns.length - 1) * step + thick;
  // The callers' node is flat.
  const callers = new Set(nodes.filter((node) => node.kind === "caller").map((node) => node.id));
  const reach = (id) => (down && callers.has(id) ? CALLER_HEIGHT : thick) / 2;
  return { positions, ways, down, thick, reach, width: down ? breadth : along, height: down ? along : breadth };
}

/**
 * The middle of each item across the layers. An item stands where its callers stand, so that a chain is straight;
 * those that would overlap move apart, and the nodes among them to both sides alike.
 */
function placesAcross(columns, ways, size) {
  const before = new Map();
  for (const way of ways) way.slice(1).forEach((to, index) => before.set(to, [...(before.get(to) ?? []), way[index]]));
  const lanes = new Set(
    columns
      .flat()
      .filter((item) => item.lane)
      .map((item) => item.id),
  );
  const across = new Map();
  for (const column of columns) {
    const wishes = column.map(({ id }) => {
      const callers = (before.get(id) ?? []).filter((one) => across.has(one));
      const nodes = callers.filter((one) => !lanes.has(one));
      return mean((nodes.length > 0 ? nodes : callers).map((one) => across.get(one)));
    });
    let end = -Infinity;
    const placed = column.map((item, index) => {
      const at = Math.max(wishes[index], end + GAP.aside + size(item) / 2);
      end = at + size(item) / 2;
      return at;
    });
    const off = mean(column.flatMap((item, index) => (item.lane ? [] : [placed[index] - wishes[index]])));
    column.forEach((item, index) => across.set(item.id, placed[index] - off));
  }
  return across;
}

const mean = (numbers) => (numbers.length > 0 ? numbers.reduce((sum, one) => sum + one, 0) / numbers.length : 0);

/** A point so far along the layers from another one. */
const shift = ({ x, y }, by, down) => (down ? { x, y: y + by } : { x: x + by, y });

/** The curve through the places of a way, and the middle of it with its slope. */
function curve(way, { positions, down, thick, reach }) {
  const places = way.map((id) => positions.get(id));
  const start = shift(places[0], reach(way[0]), down);
  const end = shift(places.at(-1), -reach(way.at(-1)) - 5, down);
  const along = (point) => (down ? point.y : point.x);
  if (along(end) <= along(start)) return around(start, end, down);
  const points = [
    start,
    ...places.slice(1, -1).flatMap((place) => [shift(place, -thick / 2, down), shift(place, thick / 2, down)]),
    end,
  ];
  let path = `M${start.x},${start.y}`;
  points.slice(1).forEach((point, index) => {
    const last = points[index];
    const bend = (along(point) - along(last)) / 2;
    const [c, d] = [shift(last, bend, down), shift(point, -bend, down)];
    path += ` C${c.x},${c.y} ${d.x},${d.y} ${point.x},${point.y}`;
  });
  const half = Math.floor((points.length - 1) / 2);
  const [one, other] = [points[half], points[half + 1]];
  const level = down ? one.x === other.x : Math.abs(one.y - other.y) < 24;
  return { path, level, middle: { x: (one.x + other.x) / 2, y: (one.y + other.y) / 2 } };
}

/** The way back of a call to a layer in front, or to the caller itself: around the outside. */
function around(start, end, down) {
  const out = (point, by) =>
    down
      ? { x: point.x + NODE.width / 2 + DETOUR, y: point.y + by }
      : { x: point.x + by, y: point.y + NODE.height / 2 + DETOUR };
  const [c, d] = [out(start, DETOUR), out(end, -DETOUR)];
  const middle = { x: (start.x + 3 * c.x + 3 * d.x + end.x) / 8, y: (start.y + 3 * c.y + 3 * d.y + end.y) / 8 };
  return {
    path: `M${start.x},${start.y} C${c.x},${c.y} ${d.x},${d.y} ${end.x},${end.y}`,
    level: false,
    back: true,
    middle,
  };
}

const failing = (errors, all) => (errors > 0 ? `${percent(errors, all)} errors` : "no errors");

/** Text cut to what fits; the whole of it is in the title. */
const short = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

/** An edge as a line and, drawn later so that no line crosses it, its label. */
function drawEdge(edge, { path, middle, level }, names, down) {
  const bad = edge.errors > 0;
  const lines = [
    rate(edge.per_minute),
    bad && `${percent(edge.errors, edge.calls)} err.`,
    `p95 ${duration(edge.p95_ms)}`,
  ].filter(Boolean);
  const height = lines.length * 13;
  const width = Math.max(...lines.map((line) => line.length)) * 6.6;
  // A level edge has its label above or beside it, any other one in the middle of it.
  const x = level && down ? middle.x + 10 : middle.x;
  const top = level && !down ? middle.y - height - 6 : middle.y - height / 2;
  const besides = level && down;
  const title = `${names.get(edge.from)} calls ${names.get(edge.to)}: ${counted(edge.calls, "call")}, ${rate(edge.per_minute)}, ${failing(edge.errors, edge.calls)}, p50 ${duration(edge.p50_ms)}, p95 ${duration(edge.p95_ms)}`;
  const line = svg(
    "g",
    { class: bad ? "edge edge-failing" : "edge", "data-from": names.get(edge.from), "data-to": names.get(edge.to) },
    svg("title", {}, title),
    svg("path", {
      d: path,
      "stroke-width": Math.min(5, 1.25 + Math.log10(1 + edge.calls) * 0.9),
      "marker-end": bad ? "url(#arrow-failing)" : "url(#arrow)",
    }),
  );
  const label = svg(
    "g",
    { class: "label" },
    svg("rect", { class: "plate", x: besides ? x - 3 : x - width / 2, y: top - 1, width, height: height + 3, rx: 4 }),
    svg(
      "text",
      { "text-anchor": besides ? "start" : "middle" },
      ...lines.map((text, index) =>
        svg("tspan", { x, y: top + 10.5 + index * 13, class: text.endsWith("err.") ? "bad" : null }, text),
      ),
    ),
  );
  return { line, label };
}

function drawNode(node, { x, y }) {
  const title = `${node.name}, ${KINDS[node.kind]}: ${counted(node.requests, "request")}, ${rate(node.per_minute)}, ${failing(node.errors, node.requests)}, p50 ${duration(node.p50_ms)}, p95 ${duration(node.p95_ms)}`;
  const facts = [
    [KINDS[node.kind], null],
    [rate(node.per_minute), null],
    [failing(node.errors, node.requests), node.errors > 0 ? "bad" : null],
    [`p50 ${duration(node.p50_ms)}`, null],
    [`p95 ${duration(node.p95_ms)}`, null],
  ];
  const caller = node.kind === "caller";
  const height = caller ? CALLER_HEIGHT : NODE.height;
  const box = [
    svg("title", {}, title),
    svg("rect", {
      class: "box",
      y: (NODE.height - height) / 2,
      width: NODE.width,
      height,
      rx: caller ? CALLER_HEIGHT / 2 : 10,
    }),
  ];
  if (caller) {
    box.push(
      svg("text", { class: "node-name", x: NODE.width / 2, y: 51, "text-anchor": "middle" }, node.name),
      svg("text", { x: NODE.width / 2, y: 67, "text-anchor": "middle" }, KINDS.caller),
    );
  } else {
    box.push(
      svg("rect", { class: "stripe", x: 10, y: 11, width: 9, height: 9, rx: 2.5 }),
      svg("text", { class: "node-name", x: 24, y: 20 }, short(node.name, 13)),
      ...facts.map(([text, name], index) => svg("text", { class: name, x: 11, y: 39 + index * 14.5 }, text)),
    );
  }
  const group = svg("g", {
    class: `node node-${node.kind} ${caller ? "" : colour(node.name)}`,
    transform: `translate(${x - NODE.width / 2},${y - NODE.height / 2})`,
    "data-node": node.name,
    "data-kind": node.kind,
  });
  const inner =
    node.kind === "service"
      ? svg("a", { href: linkOf(node.name), "aria-label": `${title}. Show its traces.` }, ...box)
      : null;
  group.append(...(inner ? [inner] : box));
  return group;
}

const linkOf = (service) => `#/traces?${new URLSearchParams({ service })}`;

function arrow(id) {
  return svg(
    "marker",
    {
      id,
      class: id,
      viewBox: "0 0 8 8",
      refX: 5,
      refY: 4,
      markerWidth: 9,
      markerHeight: 9,
      markerUnits: "userSpaceOnUse",
      orient: "auto",
    },
    svg("path", { d: "M0,0 L8,4 L0,8 z" }),
  );
}

/** The drawing. It is as wide as its container, or smaller. */
function draw({ nodes, edges }, room) {
  const known = new Set(nodes.map((node) => node.id));
  const drawable = edges.filter(({ from, to }) => known.has(from) && known.has(to));
  const layout = layOut(nodes, drawable, room);
  const names = new Map(nodes.map((node) => [node.id, node.name]));
  const curves = layout.ways.map((way) => curve(way, layout));
  const drawn = drawable.map((edge, index) => drawEdge(edge, curves[index], names, layout.down));
  const detour = curves.some((one) => one.back) ? DETOUR : 0;
  const margin = layout.down && !detour ? 60 : detour;
  const [width, height] = layout.down
    ? [layout.width + 16 + margin, layout.height + 16]
    : [layout.width + 16, layout.height + 16 + detour];
  return svg(
    "svg",
    {
      viewBox: `-8 -8 ${width} ${height}`,
      width,
      height,
      role: "group",
      "aria-label": "Service map",
      class: layout.down ? "map-down" : "map-right",
    },
    svg("defs", {}, arrow("arrow"), arrow("arrow-failing")),
    ...drawn.map(({ line }) => line),
    ...nodes.map((node) => drawNode(node, layout.positions.get(node.id))),
    ...drawn.map(({ label }) => label),
  );
}

function table(caption, head, rows) {
  return el(
    "table",
    { class: "numbers" },
    el("caption", {}, caption),
    el("thead", {}, el("tr", {}, ...head.map((text) => el("th", { scope: "col" }, text)))),
    el("tbody", {}, ...rows),
  );
}

function cells(all, errors, item) {
  return [
    el("td", {}, count(all)),
    el("td", {}, rate(item.per_minute)),
    el("td", { class: errors > 0 ? "bad" : null }, errors > 0 ? `${count(errors)} (${percent(errors, all)})` : "0"),
    el("td", {}, duration(item.p50_ms)),
    el("td", {}, duration(item.p95_ms)),
  ];
}

function tables({ nodes, edges }) {
  const names = new Map(nodes.map((node) => [node.id, node]));
  const name = (node) =>
    node?.kind === "service"
      ? el("a", { href: linkOf(node.name) }, chip(node.name))
      : el("span", {}, node?.name ?? "?");
  const numbers = ["Rate", "Errors", "p50", "p95"];
  return el(
    "div",
    { class: "map-tables" },
    table(
      "Services",
      ["Name", "Requests", ...numbers],
      nodes
        .filter((node) => node.kind !== "caller")
        .map((node) =>
          el(
            "tr",
            {},
            el("th", { scope: "row" }, name(node), node.kind === "service" ? null : ` (${KINDS[node.kind]})`),
            ...cells(node.requests, node.errors, node),
          ),
        ),
    ),
    table(
      "Calls",
      ["From → to", "Calls", ...numbers],
      edges.map((edge) =>
        el(
          "tr",
          {},
          el("th", { scope: "row" }, name(names.get(edge.from)), " → ", name(names.get(edge.to))),
          ...cells(edge.calls, edge.errors, edge),
        ),
      ),
    ),
  );
}

/** The view: a heading with the time window, the drawing, and the tables. */
export function mapView(main) {
  document.title = "Service map";
  const choice = el(
    "select",
    { name: "window" },
    ...WINDOWS.map(([minutes, text]) => el("option", { value: minutes }, text)),
  );
  choice.addEventListener("change", () =>
    location.replace(choice.value === "" ? "#/map" : `#/map?last=${choice.value}`),
  );
  const canvas = el("div", { class: "map" });
  const facts = el("div", {});
  main.append(
    el(
      "div",
      { class: "heading" },
      el("h1", {}, "Service map"),
      el("label", { class: "field inline" }, el("span", {}, "Time"), choice),
    ),
    canvas,
    facts,
  );
  let parameters = new URLSearchParams();
  let data = null;
  let drawnWidth = 0;

  function redraw() {
    if (data === null || data.nodes.length === 0) return;
    drawnWidth = canvas.clientWidth;
    const focused = document.activeElement?.closest?.("[data-node]")?.dataset.node;
    canvas.replaceChildren(draw(data, canvas.clientWidth - 16));
    if (focused) canvas.querySelector(`[data-node="${CSS.escape(focused)}"] a`)?.focus();
  }

  const refresh = api.oneAtATime(async () => {
    const last = Number(parameters.get("last"));
    const query = new URLSearchParams();
    for (const name of ["from_ms", "to_ms"]) {
      if (parameters.get(name)) query.set(name, parameters.get(name));
    }
    if (last > 0) query.set("from_ms", String(Math.round(Date.now() - last * 60_000)));
    try {
      data = await api.map(query);
      if (data.nodes.length === 0) {
        facts.replaceChildren();
        canvas.replaceChildren(
          el(
            "section",
            { class: "empty" },
            el("h2", {}, "No requests in this time"),
            el("p", {}, "The map shows who calls whom as soon as spans arrive."),
          ),
        );
        return;
      }
      redraw();
      const links = () => [...facts.querySelectorAll("a")];
      const focused = links().indexOf(document.activeElement);
      facts.replaceChildren(tables(data));
      links()[focused]?.focus();
    } catch (error) {
      canvas.replaceChildren(failure(error));
    }
  });

  const resized = new ResizeObserver(() => {
    if (canvas.clientWidth !== drawnWidth) redraw();
  });
  resized.observe(main);
  return {
    update(next) {
      parameters = next;
      const last = next.get("last") ?? "";
      if (![...choice.options].some((option) => option.value === last))
        choice.append(el("option", { value: last }, `last ${last} minutes`));
      choice.value = last;
      refresh();
    },
    refresh,
    close: () => resized.disconnect(),
  };
}
