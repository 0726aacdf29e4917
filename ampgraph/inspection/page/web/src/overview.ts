/** What stands beside the picture while nothing is chosen: why nodes are float32, and what boundaries cost. */

import type { Document, Island } from "./contract";
import { h } from "./dom";
import * as format from "./format";
import { holdList, otherHolds } from "./holds";
import { type Links, ruleLink, sentence } from "./links";
import { boundaryRow, describedTypes } from "./lists";
import type { Model } from "./model";
import { link, section } from "./parts";

const REASONS = 6;
const BOUNDARIES = 5;

/** The overview. `model` is of the graph after; `list`: to the whole list of a kind. */
export function overview(
  document: Document,
  model: Model,
  links: Links,
  list: (tab: "islands" | "boundaries") => void,
): HTMLElement {
  const reasons = byReason(document.summary.islands);
  const { boundaries } = model.graph;
  return h(
    "article",
    { class: "overview" },
    reasons.length === 0
      ? null
      : section(
          "Float32, and why",
          h(
            "ol",
            { class: "rows" },
            ...reasons.slice(0, REASONS).map((islands) => reasonRow(document, model, islands, links)),
          ),
          document.summary.islands.length > 1
            ? all(`all ${format.plural(document.summary.islands.length, "island")}`, () => list("islands"))
            : null,
        ),
    boundaries.length === 0
      ? null
      : section(
          format.isPriced(document.unit) ? "Dearest boundaries" : "Largest boundaries",
          h(
            "ol",
            { class: "rows" },
            ...boundaries.slice(0, BOUNDARIES).map((one) => boundaryRow(document, model, one, links)),
          ),
          boundaries.length > BOUNDARIES
            ? all(`all ${format.boundaries(boundaries.length)}`, () => list("boundaries"))
            : null,
        ),
    h(
      "p",
      { class: "quiet hint" },
      "Choose a node to see why it is as it is. Double-click opens a group, / searches, ? lists the keys.",
    ),
  );
}

function all(text: string, act: () => void): HTMLElement {
  return h("p", {}, link(act, text));
}

/** Islands with one reason together, as the terminal tells them: most of the price, or most nodes, first. */
function byReason(islands: readonly Island[]): Island[][] {
  const groups = new Map<string, Island[]>();
  for (const island of islands) {
    const spoken = island.rule >= 0 || island.cause === "cost" ? "" : island.why;
    const key = JSON.stringify([island.cause, island.rule, spoken]);
    const found = groups.get(key);
    if (found === undefined) groups.set(key, [island]);
    else found.push(island);
  }
  const total = (all: readonly Island[], figure: (island: Island) => number) =>
    all.reduce((sum, island) => sum + figure(island), 0);
  return [...groups.values()].sort(
    (one, other) =>
      total(other, (island) => format.number(island.time)) - total(one, (island) => format.number(island.time)) ||
      total(other, (island) => island.nodes.length) - total(one, (island) => island.nodes.length),
  );
}

function reasonRow(document: Document, model: Model, islands: readonly Island[], links: Links): HTMLElement {
  const [first] = islands;
  const rule = document.rules[first!.rule];
  const nodes = islands.reduce((sum, island) => sum + island.nodes.length, 0);
  const price = islands.reduce((sum, island) => sum + format.number(island.time), 0);
  const at = model.nodeAt.get(first!.nodes[0] ?? "");
  const others = otherHolds(islands);
  const types = new Map<string, number>();
  for (const island of islands)
    for (const [type, count] of Object.entries(island.types)) types.set(type, (types.get(type) ?? 0) + count);
  return h(
    "li",
    {},
    h(
      "p",
      { class: "head" },
      h("span", {}, h("b", {}, first!.cause), " ", rule === undefined ? null : ruleLink(rule, links)),
      h("span", { class: "figure" }, format.isPriced(document.unit) ? format.price(price, document.unit) : ""),
    ),
    h("p", {}, sentence(model, first!.why, links)),
    h(
      "p",
      { class: "quiet" },
      `${format.plural(nodes, "node")} in ${format.plural(islands.length, "island")}: `,
      link(() => at !== undefined && links.node(at), describedTypes([...types], 3)),
    ),
    others.length === 0 ? null : holdList(document, model, islands, others, links),
  );
}
