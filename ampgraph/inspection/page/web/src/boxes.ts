/** What stands in a box, and the room that it takes. */

import type { Value } from "./contract";
import * as format from "./format";
import type { Edge, Level } from "./levels";
import { constantsOf, type Model, valueOf } from "./model";
import { clipped, lastPart } from "./names";
import { mark } from "./precision";
import { isGroup, type Item, type Tree } from "./tree";

export type Font = "title" | "small";
export type Measure = (text: string, font: Font) => number;

/** A line under a title. `to`: the node that a click on it goes to, -1 for none. */
export interface Line {
  readonly text: string;
  readonly kind: "name" | "far" | "constant";
  readonly to: number;
}

export interface Face {
  readonly item: number;
  readonly shape: "leaf" | "cast" | "end" | "group" | "open";
  readonly title: string;
  readonly mark: string;
  readonly precision: string;
  readonly lines: readonly Line[];
  readonly bar: readonly (readonly [string, number])[];
  readonly width: number;
  readonly height: number;
}

/** Options of the picture that change what boxes hold. */
export interface Shown {
  readonly constants: boolean; // of every node
  readonly constantsOf: ReadonlySet<string>; // of nodes with these ids
  readonly marks: ((item: number) => string) | null; // instead of precisions
}

export const LINE = 14;
const PAD = 9;
const LABEL = 30; // characters
const MOST = 6; // constants of one box

/** Faces of all boxes of a level; `edges` tell what is said in words. */
export function facesOf(model: Model, tree: Tree, level: Level, shown: Shown, measure: Measure): Map<number, Face> {
  const far = farLines(model, level.edges);
  return new Map(
    level.boxes.map((id) => {
      const item = tree.items[id]!;
      const lines = level.inside.has(id) ? [] : (far.get(id) ?? []);
      return [id, sized(face(model, item, level.inside.has(id), lines, shown), measure)];
    }),
  );
}

function face(model: Model, item: Item, open: boolean, far: readonly Line[], shown: Shown): Unsized {
  const found = open
    ? openFace(model, item)
    : isGroup(item)
      ? groupFace(model, item, far)
      : leafFace(model, item, far, shown);
  return shown.marks === null || open ? found : { ...found, mark: shown.marks(item.id) };
}

type Unsized = Omit<Face, "width" | "height">;

function openFace(model: Model, item: Item): Unsized {
  const title = clipped(groupTitle(model, item), 44);
  return { item: item.id, shape: "open", title, mark: "", precision: "", lines: [], bar: [...item.tally] };
}

function groupTitle(model: Model, item: Item): string {
  if (item.kind !== "owner") return item.label || item.type;
  const type = shortType(model.graph.nodes[item.node]!.type);
  return item.label.startsWith(type) ? item.label : `${type} ${item.label}`;
}

function groupFace(model: Model, item: Item, far: readonly Line[]): Unsized {
  const count = format.plural(item.size - item.casts, item.kind === "ends" ? item.label.replace(/s$/, "") : "node");
  const casts = item.casts > 0 ? ` · ${format.plural(item.casts, "cast")}` : "";
  const type = item.kind === "module" && item.type !== "" ? `${clipped(lastPart(item.type), 22)} · ` : "";
  const lines: Line[] = [{ text: `${type}${count}${casts}`, kind: "name", to: -1 }, ...far];
  const title = clipped(groupTitle(model, item), LABEL);
  return { item: item.id, shape: "group", title, mark: "", precision: "", lines, bar: [...item.tally] };
}

function leafFace(model: Model, item: Item, far: readonly Line[], shown: Shown): Unsized {
  const node = model.graph.nodes[item.node]!;
  const base = { item: item.id, mark: mark(node.precision), precision: node.precision, bar: [] };
  if (node.kind === "cast") return { ...base, shape: "cast", title: castTitle(model, item.node), lines: [] };
  if (node.kind !== "op") {
    const value = valueOf(model, node.outputs[0] ?? node.inputs[0] ?? "");
    const lines =
      value === undefined
        ? far
        : [{ text: clipped(format.shape(value), LABEL), kind: "name" as const, to: -1 }, ...far];
    return { ...base, shape: "end", title: clipped(node.name, LABEL), lines };
  }
  const title = clipped(shortType(node.type), LABEL);
  const name = clipped(item.label, LABEL);
  const own: Line[] = name === "" || name === title ? [] : [{ text: name, kind: "name", to: -1 }];
  const constants = shown.constants || shown.constantsOf.has(node.id) ? constantLines(constantsOf(model, node)) : [];
  return { ...base, shape: "leaf", title, lines: [...own, ...constants, ...far] };
}

/** Types without their domain. */
export function shortType(type: string): string {
  return type.startsWith("aten.") ? type.slice(5) : type.slice(type.lastIndexOf(".") + 1) || type;
}

/** "f32 → f16 1.20 MB" of the boundary that a cast stands at. */
export function castTitle(model: Model, node: number): string {
  const at = (model.boundariesOf.get(node) ?? []).find(
    (one) => model.graph.boundaries[one]!.cast === model.graph.nodes[node]!.id,
  );
  const boundary = at === undefined ? undefined : model.graph.boundaries[at];
  const cast = model.graph.nodes[node]!;
  if (boundary !== undefined)
    return `${mark(boundary.source)} → ${mark(boundary.target)}  ${format.bytes(boundary.bytes)}`;
  return `→ ${mark(cast.precision)}  ${format.bytes(cast.bytes)}`;
}

function constantLines(values: readonly Value[]): Line[] {
  const lines: Line[] = values.slice(0, MOST).map((value) => ({
    text: `${clipped(lastPart(value.name), 14)}  ${clipped(format.shape(value), 16)}  ${mark(value.dtype)}`,
    kind: "constant",
    to: -1,
  }));
  if (values.length > MOST) lines.push({ text: `${values.length - MOST} more constants`, kind: "constant", to: -1 });
  return lines;
}

/** Lines for edges that are not drawn, at both of their ends. */
function farLines(model: Model, edges: readonly Edge[]): Map<number, Line[]> {
  const reads = new Map<number, Set<number>>();
  const feeds = new Map<number, Set<number>>();
  const add = (to: Map<number, Set<number>>, end: string, node: number): void => {
    if (!end.startsWith("n")) return;
    const id = Number(end.slice(1));
    to.set(id, (to.get(id) ?? new Set()).add(node));
  };
  for (const edge of edges) {
    if (edge.drawn) continue;
    for (const at of edge.wires) {
      add(reads, edge.to, model.wires[at]!.from);
      add(feeds, edge.from, model.wires[at]!.to);
    }
  }
  const lines = new Map<number, Line[]>();
  for (const [id, nodes] of reads) lines.set(id, [farLine(model, nodes, "↰")]);
  for (const [id, nodes] of feeds) lines.set(id, [...(lines.get(id) ?? []), farLine(model, nodes, "↴")]);
  return lines;
}

function farLine(model: Model, nodes: ReadonlySet<number>, sign: string): Line {
  const [first] = [...nodes];
  const node = model.graph.nodes[first!]!;
  const more = nodes.size > 1 ? ` +${nodes.size - 1}` : "";
  return {
    text: `${sign} ${clipped(lastPart(node.name) || shortType(node.type), 22)}${more}`,
    kind: "far",
    to: first!,
  };
}

function sized(face: Unsized, measure: Measure): Face {
  const sign = face.shape === "group" ? 20 : 0;
  const marked = sign + (face.mark === "" || face.shape === "cast" ? 0 : measure(face.mark, "small") + 14);
  const widest = Math.max(
    measure(face.title, "title") + marked,
    ...face.lines.map((line) => measure(line.text, "small")),
  );
  const rounded = face.shape === "end" ? 6 : 0;
  const least = { leaf: 84, cast: 60, end: 70, group: 130, open: 110 }[face.shape];
  const width = Math.ceil(Math.max(least, widest + 2 * PAD + rounded + (face.shape === "open" ? 60 : 4)));
  const heights = { leaf: 25, cast: 19, end: 24, group: 40, open: 24 };
  return { ...face, width, height: heights[face.shape] + LINE * face.lines.length - (face.shape === "group" ? 6 : 0) };
}
