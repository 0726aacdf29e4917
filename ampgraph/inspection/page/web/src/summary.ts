/** The first panel: what the model is, and its figures. */

import type { Document, KeptParameter, Share } from "./contract";
import { h } from "./dom";
import * as format from "./format";
import { type Links, ruleLink, sentence } from "./links";
import { type Model, valueOf } from "./model";
import { brief, nameOf, chip, facts, link, rows, section } from "./parts";
import { precisionClass } from "./precision";
import { visible } from "./names";

const STATES = {
  converted: "converted by ampgraph",
  planned: "as convert would write it",
  found: "as it was found",
} as const;

/** The summary. `model` is of the graph after. */
export function summaryPanel(document: Document, model: Model, links: Links): HTMLElement {
  const { summary } = document;
  return h(
    "article",
    { class: "summary" },
    identity(document),
    section("Precision", shares(summary.shares, document.unit)),
    section(format.isPriced(document.unit) ? "One run" : "Casts", times(document)),
    ...summary.notes.map((note) => h("p", { class: "note" }, visible(note))),
    kept(document, model, links),
    cpu(document, model, links),
  );
}

function identity(document: Document): HTMLElement {
  const opsets = Object.entries(document.opsets).map(
    ([domain, version]) => `${visible(domain) || "ai.onnx"} ${version}`,
  );
  const shapes = format.shapes(document.shapes);
  return section(
    "Model",
    facts([
      ["file", nameOf(document.name, 80)],
      ["state", STATES[document.state]],
      ["dialect", document.dialect === "onnx" ? `ONNX, ${opsets.join(", ")}` : document.dialect],
      ["precision", document.precision],
      ["for", [document.target, document.device, document.objective].filter((word) => word !== "").join(", ")],
      ["shapes", shapes === "" ? "" : nameOf(shapes, 200)],
      ["producer", document.producer === "" ? "" : nameOf(document.producer, 80)],
    ]),
  );
}

const COLUMNS: readonly (readonly [string, (share: Share, unit: string) => string, (share: Share) => number])[] = [
  ["nodes", (share) => format.count(share.nodes), (share) => share.nodes],
  ["FLOPs", (share) => format.operations(share.operations).replace("FLOP", ""), (share) => share.operations],
  ["bytes", (share) => format.bytes(share.bytes), (share) => share.bytes],
  ["weights", (share) => format.bytes(share.parameter_bytes), (share) => share.parameter_bytes],
  ["time", (share, unit) => format.price(share.time, unit), (share) => format.number(share.time)],
];

/** What the plan's unit measures has a column; points measure nothing. */
function columns(unit: string): typeof COLUMNS {
  return format.isPriced(unit) ? COLUMNS : COLUMNS.slice(0, -1);
}

function shares(all: readonly Share[], unit: string): HTMLElement {
  const head = h(
    "tr",
    {},
    h("th", { scope: "col" }, h("span", { class: "unseen" }, "precision")),
    ...columns(unit).map(([title]) =>
      h("th", { scope: "col" }, title === "time" && !format.isTime(unit) ? "live bytes" : title),
    ),
  );
  const body = all.map((share) =>
    h(
      "tr",
      {},
      h("th", { scope: "row" }, chip(share.precision)),
      ...columns(unit).map(([, text]) => h("td", {}, text(share, unit))),
    ),
  );
  const bars = h(
    "tr",
    { class: "bars", "aria-hidden": "true" },
    h("th"),
    ...columns(unit).map(([, , figure]) => h("td", {}, bar(all, figure))),
  );
  return h("table", { class: "figures" }, h("thead", {}, head), h("tbody", {}, ...body, bars));
}

function bar(all: readonly Share[], figure: (share: Share) => number): HTMLElement {
  const parts = all.filter((share) => figure(share) > 0);
  return h(
    "div",
    { class: "split" },
    ...parts.map((share) => grown(h("span", { class: precisionClass(share.precision) }), figure(share))),
  );
}

function grown(element: HTMLElement, part: number): HTMLElement {
  element.style.flexGrow = String(part);
  return element;
}

function times(document: Document): HTMLElement {
  const { summary, unit } = document;
  const [before, after] = [format.number(summary.before), format.number(summary.after)];
  const gain = before > after && after > 0 && format.isTime(unit) ? `, ${(before / after).toFixed(2)}× as fast` : "";
  const priced = format.isPriced(unit);
  const taking = priced && summary.casts > 0 ? `, taking ${format.price(summary.cast_time, unit)}` : "";
  return facts([
    ["in float32", priced ? format.price(summary.before, unit) : ""],
    [
      document.state === "planned" ? "as planned" : "as it is",
      priced ? `${format.price(summary.after, unit)}${gain}` : "",
    ],
    [
      "casts",
      summary.casts === 0 ? "none" : `${format.count(summary.casts)} move ${format.bytes(summary.cast_bytes)}${taking}`,
    ],
    ["islands", summary.islands.length === 0 ? "none" : `${format.count(summary.islands.length)} stay in float32`],
  ]);
}

function kept(document: Document, model: Model, links: Links): HTMLElement | null {
  const all = document.summary.kept_parameters;
  if (all.length === 0) return null;
  const total = all.reduce((sum, one) => sum + one.bytes, 0);
  return h(
    "details",
    { class: "fold" },
    h("summary", {}, `${format.plural(all.length, "parameter")} kept in float32, ${format.bytes(total)}`),
    rows(all, (one) => keptRow(document, model, one, links), 20),
  );
}

/** A parameter that leads to its reader, whose reason it has. */
function keptRow(document: Document, model: Model, one: KeptParameter, links: Links): HTMLElement {
  const reader = model.nodeAt.get(one.reader);
  const rule = document.rules[model.graph.nodes[reader ?? -1]?.rule ?? -1];
  return h(
    "li",
    {},
    h(
      "p",
      { class: "head" },
      link(() => reader !== undefined && links.node(reader), brief(valueOf(model, one.value)?.name || one.value, 48)),
      h("span", { class: "figure" }, format.bytes(one.bytes)),
    ),
    h("p", { class: "quiet" }, `${one.cause} `, rule === undefined ? null : ruleLink(rule, links)),
    h("p", {}, sentence(model, one.why, links)),
  );
}

function cpu(document: Document, model: Model, links: Links): HTMLElement | null {
  const ids = document.summary.cpu_nodes;
  if (ids.length === 0) return null;
  const row = (id: string) => {
    const at = model.nodeAt.get(id);
    const node = model.graph.nodes[at ?? -1];
    return h(
      "li",
      {},
      link(() => at !== undefined && links.node(at), visible(node?.type ?? ""), " ", brief(node?.name ?? id, 48)),
    );
  };
  return h(
    "details",
    { class: "fold" },
    h("summary", {}, `${format.plural(ids.length, "node")} on the CPU`),
    rows(ids, row, 20),
  );
}
