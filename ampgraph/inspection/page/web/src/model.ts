/** A graph with its indices: who makes a value, who reads it, what crosses a boundary. */

import type { Boundary, Graph, Node, Value } from "./contract";

/** One value on its way from a node to one of its readers, by positions in `nodes` and `values`. */
export interface Wire {
  readonly from: number;
  readonly to: number;
  readonly value: number;
  readonly boundary: number;
}

export interface Model {
  readonly graph: Graph;
  readonly nodeAt: ReadonlyMap<string, number>;
  readonly valueAt: ReadonlyMap<string, number>;
  readonly maker: Int32Array;
  readonly readers: readonly (readonly number[])[];
  readonly wires: readonly Wire[];
  readonly wiresIn: readonly (readonly number[])[];
  readonly wiresOut: readonly (readonly number[])[];
  readonly boundariesOf: ReadonlyMap<number, readonly number[]>;
}

/** Positions by id. The first of two equal ids counts. */
function positions(items: readonly { readonly id: string }[]): Map<string, number> {
  const found = new Map<string, number>();
  items.forEach((item, at) => found.has(item.id) || found.set(item.id, at));
  return found;
}

function makers(nodes: readonly Node[], valueAt: ReadonlyMap<string, number>, size: number): Int32Array {
  const maker = new Int32Array(size).fill(-1);
  nodes.forEach((node, at) => {
    if (node.kind === "output") return;
    for (const id of node.outputs) {
      const value = valueAt.get(id);
      if (value !== undefined && maker[value] === -1) maker[value] = at;
    }
  });
  return maker;
}

function readersOf(nodes: readonly Node[], valueAt: ReadonlyMap<string, number>, size: number): number[][] {
  const readers: number[][] = Array.from({ length: size }, () => []);
  nodes.forEach((node, at) => {
    for (const id of new Set(node.inputs)) {
      const value = id === "" ? undefined : valueAt.get(id);
      if (value !== undefined) readers[value]!.push(at);
    }
  });
  return readers;
}

/** Boundary of every pair of a value and a reader; casts stand at both of their sides. */
function crossings(boundaries: readonly Boundary[], nodeAt: ReadonlyMap<string, number>): Map<number, number[]> {
  const found = new Map<number, number[]>();
  boundaries.forEach((boundary, at) => {
    for (const id of new Set([boundary.maker, boundary.cast, ...boundary.readers])) {
      const node = id === "" ? undefined : nodeAt.get(id);
      if (node !== undefined) found.set(node, [...(found.get(node) ?? []), at]);
    }
  });
  return found;
}

function crossed(graph: Graph): (value: string, from: Node, to: Node) => number {
  const casts = new Map<string, number>();
  const direct = new Map<string, number>();
  graph.boundaries.forEach((boundary, at) => {
    if (boundary.cast !== "") casts.set(boundary.cast, at);
    else for (const reader of boundary.readers) direct.set(`${boundary.value}\u0000${reader}`, at);
  });
  return (value, from, to) => casts.get(from.id) ?? casts.get(to.id) ?? direct.get(`${value}\u0000${to.id}`) ?? -1;
}

/** Everything that views ask of a graph. */
export function modelOf(graph: Graph): Model {
  const nodeAt = positions(graph.nodes);
  const valueAt = positions(graph.values);
  const maker = makers(graph.nodes, valueAt, graph.values.length);
  const readers = readersOf(graph.nodes, valueAt, graph.values.length);
  const boundaryOf = crossed(graph);
  const wires: Wire[] = [];
  const wiresIn: number[][] = graph.nodes.map(() => []);
  const wiresOut: number[][] = graph.nodes.map(() => []);
  readers.forEach((nodes, value) => {
    const from = maker[value]!;
    if (from < 0) return;
    for (const to of nodes) {
      if (to === from) continue;
      const boundary = boundaryOf(graph.values[value]!.id, graph.nodes[from]!, graph.nodes[to]!);
      wiresIn[to]!.push(wires.length);
      wiresOut[from]!.push(wires.length);
      wires.push({ from, to, value, boundary });
    }
  });
  const boundariesOf = crossings(graph.boundaries, nodeAt);
  return { graph, nodeAt, valueAt, maker, readers, wires, wiresIn, wiresOut, boundariesOf };
}

/** The node with an id, else the first with such a name, else the first that stands for such a one. */
export function nodeNamed(model: Model, text: string): number | undefined {
  const { nodes } = model.graph;
  const found = model.nodeAt.get(text) ?? nodes.findIndex((node) => node.name === text);
  const at = found >= 0 ? found : nodes.findIndex((node) => node.origins.includes(text));
  return at >= 0 ? at : undefined;
}

/** A value by id. */
export function valueOf(model: Model, id: string): Value | undefined {
  const at = model.valueAt.get(id);
  return at === undefined ? undefined : model.graph.values[at];
}

/** What a node reads that no node makes: its constants. */
export function constantsOf(model: Model, node: Node): Value[] {
  return node.inputs.flatMap((id) => {
    const value = id === "" ? undefined : valueOf(model, id);
    return value !== undefined && value.initializer !== null ? [value] : [];
  });
}
