/** Lists that jump: boundaries, islands, results of a search. */

import type { Boundary, Document, Island } from "./contract";
import { h } from "./dom";
import * as format from "./format";
import type { Model } from "./model";
import { visible } from "./names";
import { brief, nameOf, chip, link, rows } from "./parts";
import { PREFIXES } from "./search";

/** Boundaries, the dearest first; where no cost is known, the largest. */
export function boundaryList(document: Document, model: Model, go: (node: number) => void): HTMLElement {
  const order = model.graph.boundaries.map((_, at) => at);
  const figure = (at: number) => {
    const cost = format.number(model.graph.boundaries[at]!.cost);
    return Number.isNaN(cost) ? -1 : cost;
  };
  const size = (at: number) => model.graph.boundaries[at]!.bytes ?? -1;
  order.sort((one, other) => figure(other) - figure(one) || size(other) - size(one) || one - other);
  if (order.length === 0)
    return h("p", { class: "quiet" }, "No value is read in another precision than it is made in.");
  return h(
    "div",
    {},
    h(
      "p",
      { class: "quiet" },
      `${format.plural(order.length, "boundary").replace("boundarys", "boundaries")}, by cost`,
    ),
    rows(order, (at) => boundaryRow(document, model, model.graph.boundaries[at]!, go)),
  );
}

function boundaryRow(document: Document, model: Model, boundary: Boundary, go: (node: number) => void): HTMLElement {
  const ends = [boundary.cast, boundary.maker, ...boundary.readers].flatMap((id) => model.nodeAt.get(id) ?? []);
  const name = (id: string) => model.graph.nodes[model.nodeAt.get(id) ?? -1]?.name ?? id;
  const value = model.graph.values[model.valueAt.get(boundary.value) ?? -1]?.name ?? boundary.value;
  const readers =
    boundary.readers.length === 1 ? brief(name(boundary.readers[0]!), 48) : `${boundary.readers.length} readers`;
  const cost = boundary.cost === null ? "" : format.price(boundary.cost, document.unit);
  const act = () => ends[0] !== undefined && go(ends[0]);
  return h(
    "li",
    {},
    h(
      "p",
      { class: "head" },
      link(
        act,
        chip(boundary.source),
        " → ",
        chip(boundary.target),
        h("span", { class: "figure" }, format.bytes(boundary.bytes)),
        h("span", { class: "figure" }, cost),
      ),
    ),
    h("p", { class: "quiet" }, brief(value, 56), " → ", readers),
  );
}

/** Islands that stay in float32, the dearest first. */
export function islandList(document: Document, model: Model, go: (node: number) => void): HTMLElement {
  const all = [...document.summary.islands].sort((one, other) => format.number(other.time) - format.number(one.time));
  if (all.length === 0) return h("p", { class: "quiet" }, "No nodes stay in float32 beside low precision.");
  return h(
    "div",
    {},
    h("p", { class: "quiet" }, `${format.plural(all.length, "island")} of float32, by time`),
    rows(all, (island) => islandRow(document, model, island, go)),
  );
}

function islandRow(document: Document, model: Model, island: Island, go: (node: number) => void): HTMLElement {
  const first = island.nodes.map((id) => model.nodeAt.get(id)).find((at) => at !== undefined);
  const types = Object.entries(island.types).sort((one, other) => other[1] - one[1]);
  const named = types
    .slice(0, 5)
    .map(([type, count]) => `${type.slice(type.lastIndexOf(".") + 1)}${count > 1 ? ` ×${count}` : ""}`)
    .join(", ");
  const rule = document.rules[island.rule];
  return h(
    "li",
    {},
    h(
      "p",
      { class: "head" },
      link(() => first !== undefined && go(first), visible(named), types.length > 5 ? " …" : ""),
      h("span", { class: "figure" }, format.price(island.time, document.unit)),
    ),
    h(
      "p",
      { class: "quiet" },
      `${format.plural(island.nodes.length, "node")} · ${island.cause}${rule === undefined ? "" : ` ${visible(rule.name)}`}`,
    ),
    h("p", {}, nameOf(island.why, 240)),
  );
}

/** What a search found. */
export function resultList(
  model: Model,
  found: readonly number[],
  query: string,
  go: (node: number) => void,
): HTMLElement {
  if (query.trim() === "") return hints();
  const list = rows(found, (at) => resultRow(model, at, go), 60);
  return h(
    "div",
    {},
    h(
      "p",
      { class: "quiet", role: "status" },
      found.length === 0 ? "Nothing found." : `${format.plural(found.length, "node")}, in order`,
    ),
    found.length === 0 ? hints() : list,
  );
}

function resultRow(model: Model, at: number, go: (node: number) => void): HTMLElement {
  const node = model.graph.nodes[at]!;
  return h(
    "li",
    {},
    link(
      () => go(at),
      chip(node.precision),
      " ",
      h("b", {}, visible(node.type.slice(node.type.lastIndexOf(".") + 1).slice(0, 60))),
      " ",
      h("span", { class: "quiet" }, brief(node.name, 90)),
    ),
  );
}

function hints(): HTMLElement {
  const examples = [
    "Softmax",
    "op:MatMul precision:f32",
    "rule:softmax",
    "is:cast",
    "is:island",
    "is:boundary",
    "is:changed",
    'module:"layer.0"',
    "-op:Constant kernel:cpu",
  ];
  return h(
    "div",
    { class: "hints" },
    h("p", {}, "Words are found in names, types and rules. With a prefix, in one place:"),
    h("p", {}, PREFIXES.map((prefix) => `${prefix}:`).join("  ")),
    h("ul", {}, ...examples.map((text) => h("li", {}, h("code", {}, text)))),
  );
}
