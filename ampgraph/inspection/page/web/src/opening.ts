/** Which groups are open: at the start, to show a node, and at most. */

import { holders, isGroup, type Tree } from "./tree";

const FIRST = 36; // boxes of the first picture
const MAIN = 0.45; // part of all nodes that makes a group the main one
export const MOST = 320; // boxes of any picture

/** Boxes that a picture shows. */
export function visible(tree: Tree, open: ReadonlySet<number>, group = 0): number {
  return tree.items[group]!.children.reduce(
    (sum, child) => sum + 1 + (open.has(child) && isGroup(tree.items[child]!) ? visible(tree, open, child) : 0),
    0,
  );
}

/**
 * What may be open in a first picture, each set one generation of groups more than the one before: the main ones, or
 * whole generations while there is room.
 */
export function firstOpenings(tree: Tree): ReadonlySet<number>[] {
  const openings = [new Set<number>()];
  const total = tree.items[0]!.size;
  let front = [0];
  let shown = tree.items[0]!.children.length;
  while (front.length > 0) {
    const groups = front
      .flatMap((id) => tree.items[id]!.children)
      .filter((id) => isGroup(tree.items[id]!) && tree.items[id]!.kind !== "ends");
    const children = (ids: readonly number[]) => ids.reduce((sum, id) => sum + tree.items[id]!.children.length, 0);
    const main = groups.filter((id) => tree.items[id]!.size >= MAIN * total);
    front = shown + children(groups) <= FIRST ? groups : shown + children(main) <= 2 * FIRST ? main : [];
    shown += children(front);
    if (front.length > 0) openings.push(new Set([...openings.at(-1)!, ...front]));
  }
  return openings;
}

/** As many groups, from the first on, as a picture may show. */
export function mostOpen(tree: Tree): Set<number> {
  const open = new Set<number>();
  const groups = tree.items.filter((item) => isGroup(item) && item.id > 0);
  for (const { id } of groups.slice(0, 2000)) {
    open.add(id);
    if (visible(tree, open) <= MOST) continue;
    open.delete(id);
    break;
  }
  return open;
}

/** Opens what hides an item. */
export function revealed(tree: Tree, open: ReadonlySet<number>, item: number): Set<number> {
  return new Set([...open, ...holders(tree, item)]);
}

/** Closes the groups that were opened longest ago until the picture is small enough; `kept` and what holds it stay. */
export function bounded(tree: Tree, open: ReadonlySet<number>, kept: number): { open: Set<number>; closed: number[] } {
  const stays = new Set(kept < 0 ? [] : [kept, ...holders(tree, kept)]);
  const left = new Set(open);
  const closed: number[] = [];
  for (const id of open) {
    if (visible(tree, left) <= MOST) break;
    if (stays.has(id) || !left.has(id) || !holders(tree, id).every((holder) => left.has(holder))) continue;
    left.delete(id);
    closed.push(id);
  }
  return { open: left, closed };
}
