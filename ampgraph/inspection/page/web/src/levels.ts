/** What a picture shows of a tree with some groups open: nested levels of boxes, and the edges between them. */

import type { Model } from "./model";
import { thinned } from "./thinning";
import { childWith, isGroup, type Tree } from "./tree";

/** An edge between two boxes of a level (by item) or its ports. `drawn`: false where it is told in words instead. */
export interface Edge {
  readonly from: string; // "n12": a box, "i0": a port that comes in
  readonly to: string; // "n12", or "o0": a port that goes out
  readonly wires: readonly number[];
  drawn: boolean;
}

/** `ins` and `outs` are ports on the border; `quiet` ones have no line outside, and stand last. */
export interface Level {
  readonly item: number;
  readonly boxes: readonly number[];
  readonly inside: ReadonlyMap<number, Level>;
  readonly edges: Edge[];
  readonly ins: readonly Port[];
  readonly outs: readonly Port[];
}

export interface Port {
  readonly wires: readonly number[];
  readonly quiet: boolean;
  readonly edges: readonly Edge[];
}

/** Wires between the children of each group, once for a tree: `pairs` of a group are its edges, opened or not. */
export type Pairs = ReadonlyMap<number, ReadonlyMap<string, number[]>>;

const PORTS = 8;

/** Every wire belongs to the innermost group that holds both of its ends. */
export function pairsOf(model: Model, tree: Tree): Pairs {
  const pairs = new Map<number, Map<string, number[]>>();
  const { items, itemOf } = tree;
  model.wires.forEach((wire, at) => {
    let [a, b] = [itemOf[wire.from]!, itemOf[wire.to]!];
    while (items[a]!.parent !== items[b]!.parent) {
      if (items[a]!.depth > items[b]!.depth) a = items[a]!.parent;
      else if (items[b]!.depth > items[a]!.depth) b = items[b]!.parent;
      else [a, b] = [items[a]!.parent, items[b]!.parent];
    }
    if (a === b) return;
    const group = items[a]!.parent;
    const found = pairs.get(group) ?? new Map<string, number[]>();
    pairs.set(group, found);
    const key = `${a}>${b}`;
    const wires = found.get(key);
    if (wires === undefined) found.set(key, [at]);
    else wires.push(at);
  });
  return pairs;
}

/** The levels of a tree whose `open` groups show what they hold. */
export function levelsOf(model: Model, tree: Tree, pairs: Pairs, open: ReadonlySet<number>): Level {
  return level({ model, tree, pairs, open }, 0, [], []);
}

interface Asked {
  readonly model: Model;
  readonly tree: Tree;
  readonly pairs: Pairs;
  readonly open: ReadonlySet<number>;
}

function level(asked: Asked, group: number, ins: readonly Port[], outs: readonly Port[]): Level {
  const boxes = asked.tree.items[group]!.children;
  const edges: Edge[] = [];
  for (const [key, wires] of asked.pairs.get(group) ?? []) {
    const [from, to] = key.split(">");
    edges.push({ from: `n${from}`, to: `n${to}`, wires, drawn: true });
  }
  ins.forEach((port, at) => edges.push(...portEdges(asked, group, port, at, true)));
  outs.forEach((port, at) => edges.push(...portEdges(asked, group, port, at, false)));
  thinned(edges, boxes);
  const inside = new Map<number, Level>();
  for (const box of boxes) {
    if (!asked.open.has(box) || !isGroup(asked.tree.items[box]!)) continue;
    const coming = ports(asked.model, edges, `n${box}`, true);
    const going = ports(asked.model, edges, `n${box}`, false);
    inside.set(box, level(asked, box, coming, going));
  }
  return { item: group, boxes, inside, edges, ins, outs };
}

function portEdges(asked: Asked, group: number, port: Port, at: number, coming: boolean): Edge[] {
  const found = new Map<number, number[]>();
  for (const wire of port.wires) {
    const { from, to } = asked.model.wires[wire]!;
    const child = childWith(asked.tree, group, asked.tree.itemOf[coming ? to : from]!);
    if (child < 0) continue;
    const wires = found.get(child);
    if (wires === undefined) found.set(child, [wire]);
    else wires.push(wire);
  }
  return [...found].map(([child, wires]) => {
    const [from, to] = coming ? [`i${at}`, `n${child}`] : [`n${child}`, `o${at}`];
    return { from, to, wires, drawn: !port.quiet };
  });
}

/** Ports of an open box: edges that carry the same values share one, and all share one where they are many. */
function ports(model: Model, edges: readonly Edge[], box: string, coming: boolean): Port[] {
  const mine = edges.filter((edge) => (coming ? edge.to : edge.from) === box);
  const found = new Map<string, Edge[]>();
  for (const edge of mine) {
    const values = new Set(edge.wires.map((wire) => model.wires[wire]!.value));
    const key = `${edge.drawn} ${coming ? edge.from : [...values].sort((a, b) => a - b).join()}`;
    found.set(key, [...(found.get(key) ?? []), edge]);
  }
  const groups = [...found.values()];
  const loud = groups.filter((group) => group[0]!.drawn);
  const quiet = groups.filter((group) => !group[0]!.drawn);
  const merged = [...(loud.length > PORTS ? [loud.flat()] : loud), ...quiet];
  return merged.map((group) => ({ wires: group.flatMap((edge) => edge.wires), quiet: !group[0]!.drawn, edges: group }));
}
