/** What of a tree is seen, and where its wires go from there. */

import type { Rect } from "./camera";
import type { Side } from "./side";
import { holders, type Tree } from "./tree";

/** The box that stands for an item: itself, or the outermost closed group around it. */
export function standIn(tree: Tree, open: ReadonlySet<number>, item: number): number {
  const closed = holders(tree, item).filter((holder) => !open.has(holder));
  return closed.at(-1) ?? item;
}

/** The boxes that stand for nodes. */
export function standIns(tree: Tree, open: ReadonlySet<number>, nodes: readonly number[]): Set<number> {
  const boxes = new Set<number>();
  const shown = new Map<number, boolean>(); // of a group, whether its children are seen
  for (const node of nodes) {
    const item = tree.itemOf[node]!;
    const { parent } = tree.items[item]!;
    if (shown.get(parent) === false) continue;
    const box = shown.get(parent) ? item : standIn(tree, open, item);
    shown.set(parent, box === item);
    boxes.add(box);
  }
  return boxes;
}

/** All nodes of an item, by position. */
export function nodesOf(tree: Tree, item: number): number[] {
  const found: number[] = [];
  const waiting = [item];
  while (waiting.length > 0) {
    const one = tree.items[waiting.pop()!]!;
    if (one.node >= 0) found.push(one.node);
    waiting.push(...one.children);
  }
  return found;
}

/** Wires that come into an item and that leave it. */
export function crossingWires(side: Side, item: number): { coming: number[]; going: number[] } {
  const nodes = nodesOf(side.tree, item);
  const inside = new Set(nodes);
  const { wires, wiresIn, wiresOut } = side.model;
  return {
    coming: nodes.flatMap((node) => wiresIn[node]!.filter((wire) => !inside.has(wires[wire]!.from))),
    going: nodes.flatMap((node) => wiresOut[node]!.filter((wire) => !inside.has(wires[wire]!.to))),
  };
}

export type Direction = "up" | "down" | "left" | "right";

/** The box that an arrow key leads to, null where there is none: along wires up and down, to what lies beside else. */
export function neighbour(
  side: Side,
  open: ReadonlySet<number>,
  places: ReadonlyMap<number, Rect>,
  item: number,
  direction: Direction,
): number | null {
  const here = places.get(item);
  if (here === undefined) return null;
  if (direction === "left" || direction === "right") return beside(side.tree, places, item, direction);
  const { coming, going } = crossingWires(side, item);
  const { wires } = side.model;
  const ends = direction === "up" ? coming.map((wire) => wires[wire]!.from) : going.map((wire) => wires[wire]!.to);
  const boxes = new Set(ends.map((end) => standIn(side.tree, open, side.tree.itemOf[end]!)));
  return nearest(places, here, [...boxes]);
}

function beside(tree: Tree, places: ReadonlyMap<number, Rect>, item: number, direction: Direction): number | null {
  const here = places.get(item)!;
  const sign = direction === "left" ? -1 : 1;
  const siblings = tree.items[tree.items[item]!.parent]!.children.filter((other) => {
    const there = places.get(other);
    if (other === item || there === undefined || (middle(there)[0] - middle(here)[0]) * sign <= 0) return false;
    return there.y < here.y + here.height + 20 && there.y + there.height > here.y - 20;
  });
  return nearest(places, here, siblings);
}

function middle(rect: Rect): [number, number] {
  return [rect.x + rect.width / 2, rect.y + rect.height / 2];
}

function nearest(places: ReadonlyMap<number, Rect>, here: Rect, boxes: readonly number[]): number | null {
  const [x, y] = middle(here);
  let [found, least] = [null as number | null, Infinity];
  for (const box of boxes) {
    const there = places.get(box);
    if (there === undefined) continue;
    const [right, down] = middle(there);
    const way = Math.hypot(right - x, down - y);
    if (way < least) [found, least] = [box, way];
  }
  return found;
}
