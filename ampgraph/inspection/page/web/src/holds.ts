/** What holds nodes in float32: every reason with how many nodes it holds, the first of them a link away. */

import type { Document, Hold, Island } from "./contract";
import { h } from "./dom";
import * as format from "./format";
import { type Links, ruleLink, sentence } from "./links";
import type { Model } from "./model";
import { link, rows } from "./parts";

const FIRST = 3; // holds that are shown at once
const NEXT = 100;

/** Holds of islands as a list, the first few and a count of the rest, which a click shows. */
export function holdList(
  document: Document,
  model: Model,
  islands: readonly Island[],
  holds: readonly Hold[],
  links: Links,
): HTMLElement {
  const row = (hold: Hold) => holdRow(document, model, islands, hold, links);
  return h("div", { class: "holds" }, rows(holds, row, FIRST, NEXT));
}

/** What holds nodes of islands besides the reason that they are told by; one of a kind together, most nodes first. */
export function otherHolds(islands: readonly Island[]): Hold[] {
  const found = new Map<string, Hold>();
  for (const hold of islands.flatMap((island) => island.holds.slice(1))) {
    const key = `${hold.cause} ${hold.rule}`;
    const same = found.get(key);
    found.set(key, same === undefined ? hold : { ...same, nodes: same.nodes + hold.nodes });
  }
  return [...found.values()].sort((one, other) => other.nodes - one.nodes);
}

function holdRow(document: Document, model: Model, islands: readonly Island[], hold: Hold, links: Links): HTMLElement {
  const rule = document.rules[hold.rule];
  const act = () => {
    const first = firstHeld(model, islands, hold);
    if (first !== undefined) links.node(first);
  };
  return h(
    "li",
    {},
    h(
      "p",
      { class: "quiet" },
      link(act, format.plural(hold.nodes, "node")),
      ` · ${hold.cause} `,
      rule === undefined ? null : ruleLink(rule, links),
    ),
    h("p", {}, sentence(model, hold.why, links)),
  );
}

/** The node whose sentence a hold has. */
function firstHeld(model: Model, islands: readonly Island[], hold: Hold): number | undefined {
  for (const id of islands.flatMap((island) => island.nodes)) {
    const at = model.nodeAt.get(id);
    const node = at === undefined ? undefined : model.graph.nodes[at];
    if (node?.cause === hold.cause && node.why === hold.why) return at;
  }
  return undefined;
}
