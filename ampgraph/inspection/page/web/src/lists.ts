/** Lists that jump: boundaries, islands, results of a search. */

import type { Boundary, Document, Island, Rule } from "./contract";
import { h } from "./dom";
import * as format from "./format";
import { holdList } from "./holds";
import type { Model } from "./model";
import { visible } from "./names";
import { type Links, ruleLink, ruleOf, sentence } from "./links";
import { brief, chip, link, rows } from "./parts";
import { PREFIXES, terms } from "./search";

/** Boundaries as the document orders them: the dearest first, or the largest where no cost is counted. */
export function boundaryList(document: Document, model: Model, links: Links): HTMLElement {
  const { boundaries } = model.graph;
  if (boundaries.length === 0)
    return h("p", { class: "quiet" }, "No value is read in another precision than it is made in.");
  return h(
    "div",
    {},
    h(
      "p",
      { class: "quiet" },
      `${format.boundaries(boundaries.length)}, by ${format.isTime(document.unit) ? "time" : "bytes"}`,
    ),
    rows(boundaries, (one) => boundaryRow(document, model, one, links)),
  );
}

/** A boundary in two lines, with links to its cast, its value's maker and its reader. */
export function boundaryRow(document: Document, model: Model, boundary: Boundary, links: Links): HTMLElement {
  const ends = [boundary.cast, boundary.maker, ...boundary.readers].flatMap((id) => model.nodeAt.get(id) ?? []);
  const value = model.graph.values[model.valueAt.get(boundary.value) ?? -1]?.name ?? boundary.value;
  const act = () => ends[0] !== undefined && links.node(ends[0]);
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
        h("span", { class: "figure" }, boundary.cost === null ? "" : format.cost(boundary.cost, document.unit)),
      ),
    ),
    h("p", { class: "quiet" }, brief(value, 48), ": ", sentence(model, boundary.why, links)),
  );
}

/** Islands that stay in float32, the dearest first; the largest where no cost is counted. */
export function islandList(document: Document, model: Model, links: Links): HTMLElement {
  const priced = format.isPriced(document.unit);
  const figure = (island: Island) => (priced ? format.number(island.time) : island.nodes.length);
  const all = [...document.summary.islands].sort((one, other) => figure(other) - figure(one));
  if (all.length === 0) return h("p", { class: "quiet" }, "No nodes stay in float32 beside low precision.");
  const order = format.isTime(document.unit) ? "time" : priced ? "bytes" : "number of nodes";
  return h(
    "div",
    {},
    h("p", { class: "quiet" }, `${format.plural(all.length, "island")} of float32, by ${order}`),
    rows(all, (island) => islandRow(document, model, island, links)),
  );
}

/** "Add ×2, Softmax" of types and how many there are of each. */
export function describedTypes(types: readonly (readonly [string, number])[], most: number): string {
  const named = [...types]
    .sort((one, other) => other[1] - one[1])
    .slice(0, most)
    .map(([type, count]) => `${visible(type.slice(type.lastIndexOf(".") + 1))}${count > 1 ? ` ×${count}` : ""}`);
  return named.join(", ") + (types.length > most ? " …" : "");
}

function islandRow(document: Document, model: Model, island: Island, links: Links): HTMLElement {
  const first = island.nodes.map((id) => model.nodeAt.get(id)).find((at) => at !== undefined);
  const nodes = format.plural(island.nodes.length, "node");
  return h(
    "li",
    {},
    h(
      "p",
      { class: "head" },
      link(() => first !== undefined && links.node(first), describedTypes(Object.entries(island.types), 5)),
      h("span", { class: "figure" }, format.cost(island.time, document.unit)),
    ),
    ...(island.holds.length > 1
      ? [h("p", { class: "quiet" }, nodes), holdList(document, model, [island], island.holds, links)]
      : reasonOf(document, model, island, nodes, links)),
  );
}

/** The reason of an island that has only one. */
function reasonOf(document: Document, model: Model, island: Island, nodes: string, links: Links): HTMLElement[] {
  const rule = document.rules[island.rule];
  const held = rule === undefined ? null : ruleLink(rule, links);
  return [
    h("p", { class: "quiet" }, `${nodes} · ${island.cause} `, held),
    h("p", {}, sentence(model, island.why, links)),
  ];
}

/** What a search found; of a search for a rule, its text too. */
export function resultList(
  document: Document,
  model: Model,
  found: readonly number[],
  query: string,
  links: Links,
): HTMLElement {
  if (query.trim() === "") return hints();
  const list = rows(found, (at) => resultRow(model, at, links.node), 60);
  const rule = ruleAsked(document, query);
  return h(
    "div",
    {},
    h(
      "p",
      { class: "quiet", role: "status" },
      found.length === 0 ? "Nothing found." : `${format.plural(found.length, "node")}, in order`,
    ),
    rule === undefined ? null : ruleOf(rule, links),
    found.length === 0 ? hints() : list,
  );
}

/** The rule that a query asks for and nothing else. */
function ruleAsked(document: Document, query: string): Rule | undefined {
  const [term, more] = terms(query);
  if (term?.prefix !== "rule" || term.not || more !== undefined) return undefined;
  return document.rules.find((rule) => rule.name.toLowerCase() === term.word);
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
