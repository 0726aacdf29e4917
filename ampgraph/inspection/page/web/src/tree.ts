/** The tree that a picture is folded along: modules, bodies inside the node that owns them, stretches of what is too wide. */

import type { Node } from "./contract";
import type { Model } from "./model";
import { lastPart } from "./names";
import { split } from "./stretches";

export type ItemKind = "root" | "module" | "body" | "owner" | "stretch" | "ends" | "leaf";

/** A leaf or a group. `key` stays the same between the views of one document; `node` is -1 where it is no node. */
export interface Item {
  readonly id: number;
  readonly key: string;
  readonly kind: ItemKind;
  readonly label: string;
  readonly type: string;
  readonly parent: number;
  readonly depth: number;
  readonly node: number;
  readonly children: number[];
  readonly first: number;
  readonly size: number;
  readonly tally: ReadonlyMap<string, number>;
  readonly casts: number;
}

export interface Tree {
  readonly items: readonly Item[];
  readonly itemOf: Int32Array;
  readonly byKey: ReadonlyMap<string, number>;
}

/** A branch while the tree grows. */
export interface Branch {
  key: string;
  kind: ItemKind;
  label: string;
  type: string;
  node: number;
  children: Branch[];
}

const ENDS = 6; // inputs or outputs of a graph side by side before they are folded into one box

function branch(kind: ItemKind, key: string, label: string, type = "", node = -1): Branch {
  return { key, kind, label, type, node, children: [] };
}

/** The tree of a graph. */
export function treeOf(model: Model): Tree {
  const { nodes, bodies } = model.graph;
  const inside = new Map<string, number[]>(bodies.map((body) => [body.id, []]));
  nodes.forEach((node, at) => inside.get(node.body)?.push(at) ?? inside.set(node.body, [at]));
  const root = branch("root", "", "");
  root.children = grown(model, "", inside).children;
  split(root, model);
  return numbered(root, model);
}

/** All of one body as a branch. */
function grown(model: Model, body: string, inside: ReadonlyMap<string, readonly number[]>): Branch {
  const top = branch("body", `b:${body}`, bodyName(body));
  const modules = new Map<number, Branch>();
  const inputs = branch("ends", `in:${body}`, "inputs");
  const outputs = branch("ends", `out:${body}`, "outputs");
  for (const at of inside.get(body) ?? []) {
    const node = model.graph.nodes[at]!;
    const place =
      node.kind === "input" ? inputs : node.kind === "output" ? outputs : moduleBranch(model, node, top, modules);
    place.children.push(nodeBranch(model, node, at, inside));
  }
  top.children = simplified(top).children;
  const ends = (group: Branch) => (group.children.length > ENDS ? [group] : group.children);
  top.children = [...ends(inputs), ...top.children, ...ends(outputs)];
  return top;
}

/** A body's own part of its id: ids of nested bodies name their owners too. */
function bodyName(body: string): string {
  return lastPart(body) || "body";
}

function moduleBranch(model: Model, node: Node, top: Branch, known: Map<number, Branch>): Branch {
  const path: number[] = [];
  const { modules } = model.graph;
  for (let at = node.module; at > 0 && at < modules.length && path.length < 64; at = modules[at]!.parent) path.push(at);
  let place = top;
  for (const at of path.reverse()) {
    let next = known.get(at);
    if (next === undefined) {
      const module = modules[at]!;
      next = branch("module", `m:${node.body}:${module.path}`, moduleName(model, at), module.type);
      known.set(at, next);
      place.children.push(next);
    }
    place = next;
  }
  return place;
}

/** A number alone says little: "layer.0". */
function moduleName(model: Model, at: number): string {
  const { name, parent } = model.graph.modules[at]!;
  const above = model.graph.modules[parent]?.name ?? "";
  return /^\d+$/.test(name) && above !== "" ? `${above}.${name}` : name;
}

function nodeBranch(model: Model, node: Node, at: number, inside: ReadonlyMap<string, readonly number[]>): Branch {
  const leaf = branch("leaf", `n:${node.id}`, lastPart(node.name), node.type, at);
  const bodies = node.bodies.filter((body) => inside.has(body));
  if (bodies.length === 0) return leaf;
  leaf.kind = "owner";
  leaf.children = bodies.map((body) => grown(model, body, inside));
  if (bodies.length === 1) leaf.children = leaf.children[0]!.children;
  return leaf;
}

/** Groups of one become what they hold; a chain of groups becomes one with the joined name. */
function simplified(group: Branch): Branch {
  group.children = group.children.map((child) => (child.kind === "module" ? simplified(child) : child));
  const only = group.children.length === 1 ? group.children[0]! : null;
  if (only === null) return group;
  if (group.kind === "body") return only.kind === "module" ? { ...group, children: only.children } : group;
  if (only.kind === "module") return { ...only, label: joined(group.label, only.label) };
  return { ...only, label: `${group.label}/${only.label}` };
}

function joined(above: string, below: string): string {
  return below.startsWith(`${above}.`) ? below : `${above}.${below}`;
}

function numbered(root: Branch, model: Model): Tree {
  const items: Item[] = [];
  const itemOf = new Int32Array(model.graph.nodes.length).fill(0);
  const byKey = new Map<string, number>();
  const visit = (from: Branch, parent: number, depth: number): Item => {
    const id = items.length;
    const item = {
      ...from,
      id,
      parent,
      depth,
      children: [] as number[],
      first: 0,
      size: 0,
      casts: 0,
      tally: new Map<string, number>(),
    };
    items.push(item);
    byKey.set(from.key, id);
    if (from.node >= 0) itemOf[from.node] = id;
    const children = from.children.map((child) => visit(child, id, depth + 1));
    item.children = children.map((child) => child.id);
    Object.assign(item, measured(from, children, model));
    return item;
  };
  visit(root, -1, 0);
  return { items, itemOf, byKey };
}

/** How many nodes are in a group, and in which precision. Casts are counted apart: they are no work of the model. */
function measured(
  from: Branch,
  children: readonly Item[],
  model: Model,
): Pick<Item, "first" | "size" | "casts" | "tally"> {
  const tally = new Map<string, number>();
  const own = from.node >= 0 ? model.graph.nodes[from.node]! : null;
  if (own !== null && own.kind === "op") tally.set(own.precision, 1);
  for (const child of children) {
    for (const [precision, count] of child.tally) tally.set(precision, (tally.get(precision) ?? 0) + count);
  }
  const total = (figure: (item: Item) => number) => children.reduce((sum, child) => sum + figure(child), 0);
  return {
    first: children.reduce((least, child) => Math.min(least, child.first), from.node >= 0 ? from.node : Infinity),
    size: total((child) => child.size) + (own !== null ? 1 : 0),
    casts: total((child) => child.casts) + (own?.kind === "cast" ? 1 : 0),
    tally,
  };
}

/** Groups that hold an item, the innermost first; the root is not among them. */
export function holders(tree: Tree, item: number): number[] {
  const found: number[] = [];
  for (let at = tree.items[item]!.parent; at > 0; at = tree.items[at]!.parent) found.push(at);
  return found;
}

/** The child of a group that an item is in, -1 where it is not inside. */
export function childWith(tree: Tree, group: number, item: number): number {
  let at = item;
  while (at > 0 && tree.items[at]!.parent !== group) at = tree.items[at]!.parent;
  return at > 0 ? at : -1;
}

/** True for what can be opened. */
export function isGroup(item: Item): boolean {
  return item.children.length > 0;
}
