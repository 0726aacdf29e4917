/** Groups with too many children side by side are cut into stretches, where the fewest values cross. */

import type { Model } from "./model";
import type { Branch } from "./tree";

export const WIDEST = 48; // children that a group may have before it is cut

/** Cuts every group of a tree that is too wide, in place. */
export function split(group: Branch, model: Model): void {
  for (const child of group.children) split(child, model);
  if (group.children.length <= WIDEST) return;
  const order = inOrder(group.children);
  group.children = cut(order, crossing(order, model), group.key, 0, order.length);
}

/** Children by their first node: nodes are in topological order, so stretches of them are too. */
function inOrder(children: readonly Branch[]): Branch[] {
  const firsts = new Map(children.map((child) => [child, first(child)]));
  return [...children].sort((one, other) => firsts.get(one)! - firsts.get(other)!);
}

function first(branch: Branch): number {
  return branch.children.reduce(
    (least, child) => Math.min(least, first(child)),
    branch.node >= 0 ? branch.node : Infinity,
  );
}

/** For each place between two children, how many values go over it. */
function crossing(children: readonly Branch[], model: Model): Int32Array {
  const place = new Int32Array(model.graph.nodes.length).fill(-1);
  const mark = (branch: Branch, at: number): void => {
    if (branch.node >= 0) place[branch.node] = at;
    for (const child of branch.children) mark(child, at);
  };
  children.forEach(mark);
  const change = new Int32Array(children.length + 1);
  for (const wire of model.wires) {
    const [from, to] = [place[wire.from]!, place[wire.to]!];
    if (from < 0 || to <= from) continue;
    change[from + 1]! += 1;
    change[to + 1]! -= 1;
  }
  for (let at = 1; at < change.length; at += 1) change[at]! += change[at - 1]!;
  return change;
}

function cut(children: readonly Branch[], over: Int32Array, key: string, low: number, high: number): Branch[] {
  const size = high - low;
  if (size <= WIDEST) return children.slice(low, high);
  const levels = Math.ceil(Math.log(size) / Math.log(WIDEST));
  const parts = Math.ceil(size ** (1 / levels));
  const found: Branch[] = [];
  let from = low;
  for (let part = 1; part <= parts && from < high; part += 1) {
    const to = part === parts ? high : best(over, from, low + Math.round((size * part) / parts), size / parts, high);
    if (to > from) found.push(stretch(cut(children, over, key, from, to), key));
    from = to;
  }
  return found;
}

/** The place near `wanted` that the fewest values cross. */
function best(over: Int32Array, from: number, wanted: number, width: number, high: number): number {
  const reach = Math.floor(width / 3);
  let found = wanted;
  for (let at = Math.max(from + 1, wanted - reach); at <= Math.min(high - 1, wanted + reach); at += 1) {
    const better = over[at]! - over[found]! || Math.abs(at - wanted) - Math.abs(found - wanted);
    if (better < 0) found = at;
  }
  return found;
}

function stretch(children: Branch[], key: string): Branch {
  if (children.length === 1) return children[0]!;
  const [head, tail] = [children[0]!, children.at(-1)!];
  const label = `${end(head, 0)} … ${end(tail, 1)}`;
  return { key: `s:${key}:${head.key}:${children.length}`, kind: "stretch", label, type: "", node: -1, children };
}

function end(branch: Branch, side: number): string {
  if (branch.kind === "stretch") return branch.label.split(" … ")[side]!;
  return branch.label || branch.type;
}
