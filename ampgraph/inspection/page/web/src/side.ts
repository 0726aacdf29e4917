/** One side of the before/after view: a graph with its tree, index and counterpart. */

import { beforeOf } from "./before";
import type { Document } from "./contract";
import { type Pairs, pairsOf } from "./levels";
import { type Model, modelOf } from "./model";
import { firstOpenings } from "./opening";
import { type Index, indexOf } from "./search";
import { type Tree, treeOf } from "./tree";

export interface Side {
  readonly model: Model;
  readonly tree: Tree;
  readonly pairs: Pairs;
  readonly index: Index;
  readonly openings: readonly ReadonlySet<number>[]; // of a first picture, the least open first
}

/** The side of after, or of before: the source where it was given, else the graph without its casts. */
export function sideOf(document: Document, before: boolean): Side {
  const graph = before ? (document.source ?? beforeOf(document.graph)) : document.graph;
  const model = modelOf(graph);
  const tree = treeOf(model);
  const islands = new Set(document.summary.islands.flatMap((island) => island.nodes));
  return {
    model,
    tree,
    pairs: pairsOf(model, tree),
    index: indexOf(document, model, islands),
    openings: firstOpenings(tree),
  };
}

/** The node of another side that is the same one, or stands for it, -1 for none. */
export function counterpart(from: Side, to: Side, at: number): number {
  const node = from.model.graph.nodes[at]!;
  const same = to.model.nodeAt.get(node.id);
  if (same !== undefined) return same;
  const names = new Set(node.origins);
  const origin = to.model.graph.nodes.findIndex((one) => names.has(one.name) || names.has(one.id));
  if (origin >= 0) return origin;
  return to.model.graph.nodes.findIndex((one) => one.origins.includes(node.name) || one.origins.includes(node.id));
}

/** The same groups of another tree. */
export function carried(from: Tree, to: Tree, open: ReadonlySet<number>): Set<number> {
  const found = [...open].map((id) => to.byKey.get(from.items[id]!.key));
  return new Set(found.filter((id) => id !== undefined));
}

/** The item of the other side that stands for an item, null where it has none. */
export function counterpartItem(from: Side, to: Side, item: number): number | null {
  const { node, key } = from.tree.items[item]!;
  if (node < 0) return to.tree.byKey.get(key) ?? null;
  const found = counterpart(from, to, node);
  return found < 0 ? null : to.tree.itemOf[found]!;
}
