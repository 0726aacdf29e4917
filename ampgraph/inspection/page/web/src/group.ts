/** The panel of a group of nodes. */

import type { Document } from "./contract";
import { h } from "./dom";
import * as format from "./format";
import { brief, nameOf, chip, facts, link, section } from "./parts";
import { byPrecision } from "./precision";
import type { Side } from "./side";
import { isGroup, type Item } from "./tree";

/** What a group holds, in figures, and its parts as links. */
export function groupPanel(document: Document, side: Side, item: Item, go: (item: number) => void): HTMLElement {
  const within = nodesIn(side, item);
  const sum = (figure: (node: number) => number | null) =>
    within.reduce((total, node) => total + (figure(node) ?? 0), 0);
  const { nodes } = side.model.graph;
  const bars = [...item.tally].sort((one, other) => byPrecision(one[0], other[0]));
  return h(
    "article",
    { class: "details" },
    h(
      "header",
      {},
      h("h2", {}, nameOf(item.label || item.type, 80)),
      h(
        "p",
        { class: "path" },
        item.kind === "stretch" ? "a stretch of what would be too wide" : nameOf(item.type || item.kind, 80),
      ),
    ),
    section(
      "Holds",
      facts([
        ["nodes", format.count(item.size - item.casts)],
        ...bars.map(
          ([precision, count]) =>
            [`in ${precision}`, h("span", {}, chip(precision), ` ${format.count(count)}`)] as const,
        ),
        ["casts", item.casts > 0 ? format.count(item.casts) : ""],
        ["operations", format.operations(sum((node) => nodes[node]!.operations))],
        ["bytes moved", format.bytes(sum((node) => nodes[node]!.bytes))],
        [
          "in low precision",
          format.cost(
            sum((node) => format.number(nodes[node]!.low) || 0),
            document.unit,
          ),
        ],
        [
          "in float32",
          format.cost(
            sum((node) => format.number(nodes[node]!.high) || 0),
            document.unit,
          ),
        ],
      ]),
    ),
    section("Parts", ...item.children.slice(0, 60).map((child) => partOf(side, child, go))),
  );
}

function partOf(side: Side, id: number, go: (item: number) => void): HTMLElement {
  const item = side.tree.items[id]!;
  const node = side.model.graph.nodes[item.node];
  const about = isGroup(item) ? format.plural(item.size - item.casts, "node") : (node?.type ?? "");
  return h(
    "p",
    {},
    link(() => go(id), node === undefined ? null : chip(node.precision), " ", brief(item.label || item.type, 60)),
    " ",
    h("span", { class: "quiet" }, about),
  );
}

function nodesIn(side: Side, item: Item): number[] {
  const own = item.node >= 0 ? [item.node] : [];
  return [...own, ...item.children.flatMap((child) => nodesIn(side, side.tree.items[child]!))];
}
