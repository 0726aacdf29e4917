/** A placed picture as SVG. */

import type { Face, Line } from "./boxes";
import { LINE } from "./boxes";
import type { Rect } from "./camera";
import { type Child, s } from "./dom";
import type { Edge, Level } from "./levels";
import { type Mistake, stepOf } from "./overlay";
import { plural } from "./format";
import { byPrecision, mark, precisionClass } from "./precision";
import { type BoxPlace, type EdgePath, FRAME, type LevelPlace, PILL, type PillPlace } from "./request";

/** Everything that a picture is drawn from. `errors`: null where precisions are shown. */
export interface Scene {
  readonly levels: ReadonlyMap<number, Level>;
  readonly faces: ReadonlyMap<number, ReadonlyMap<number, Face>>;
  readonly crossing: (edge: Edge) => string; // text of a boundary on an edge, "" for none
  readonly label: (item: number) => string; // for those who do not see the picture
  readonly errors: ReadonlyMap<number, Mistake> | null;
}

/** What was drawn. `wires` of a path are those that it stands for. */
export interface Drawing {
  readonly element: SVGGElement;
  readonly boxes: Map<number, SVGGElement>;
  readonly places: Map<number, Rect>;
  readonly paths: { readonly element: SVGElement; readonly wires: readonly number[] }[];
}

/** Draws all levels. */
export function drawn(place: LevelPlace, scene: Scene): Drawing {
  const element = s("g", { role: "group" }) as SVGGElement;
  const drawing: Drawing = { element, boxes: new Map(), places: new Map(), paths: [] };
  drawLevel(place, scene, drawing, element, 0, 0);
  return drawing;
}

function drawLevel(place: LevelPlace, scene: Scene, drawing: Drawing, parent: SVGElement, x: number, y: number): void {
  const level = scene.levels.get(place.item)!;
  const edges = level.edges.filter((edge) => edge.drawn);
  const frames = s("g");
  const lines = s("g", { class: "edges", "aria-hidden": "true" });
  const boxes = s("g");
  const marks = s("g", { "aria-hidden": "true" });
  parent.append(frames, lines, boxes, marks);
  for (const path of place.edges) drawEdge(path, edges[path.edge]!, scene, drawing, lines);
  for (const pill of place.pills) marks.append(drawPill(pill, edges[pill.edge]!, scene));
  for (const box of place.boxes) {
    const item = Number(box.id.slice(1));
    const face = scene.faces.get(place.item)!.get(item)!;
    const group = boxGroup(face, box, scene);
    drawing.boxes.set(item, group);
    drawing.places.set(item, { x: x + box.x, y: y + box.y, width: box.width, height: box.height });
    if (box.inside === null) boxes.append(group);
    else drawInside(box, box.inside, scene, drawing, group, frames, x, y);
  }
}

function drawInside(
  box: BoxPlace,
  inside: LevelPlace,
  scene: Scene,
  drawing: Drawing,
  group: SVGGElement,
  frames: SVGElement,
  x: number,
  y: number,
): void {
  const [left, top] = [(box.width - inside.width) / 2, FRAME.head];
  const content = s("g", { transform: `translate(${round(left)} ${top})` });
  const used = (name: string) => (_: number, at: number) =>
    inside.edges.some((path) => path.from === `${name}${at}` || path.to === `${name}${at}`);
  for (const at of inside.ins.filter(used("i")))
    content.append(s("path", { class: "edge", d: `M${round(at)} ${-FRAME.head}V1` }));
  for (const at of inside.outs.filter(used("o")))
    content.append(s("path", { class: "edge", d: `M${round(at)} ${round(inside.height) - 1}v${FRAME.foot + 1}` }));
  group.append(content);
  frames.append(group);
  drawLevel(inside, scene, drawing, content, x + box.x + left, y + box.y + top);
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}

function drawEdge(path: EdgePath, edge: Edge, scene: Scene, drawing: Drawing, lines: SVGElement): void {
  const arrow = path.to.startsWith("n") ? "url(#arrow)" : undefined;
  const width = Math.min(5, 1.1 + Math.log2(edge.wires.length) * 0.7);
  const kind = scene.crossing(edge) === "" ? "edge" : "edge crossing";
  const element = s("path", { class: kind, d: curve(path.points), "stroke-width": round(width), "marker-end": arrow });
  lines.append(element);
  drawing.paths.push({ element, wires: edge.wires });
}

function drawPill(place: PillPlace, edge: Edge, scene: Scene): SVGElement {
  const text = scene.crossing(edge);
  const width = pillWidth(text);
  const pill = s("g", {
    class: "pill",
    "data-wires": edge.wires.slice(0, 200).join(","),
    transform: `translate(${round(place.x - width / 2)} ${round(place.y - PILL / 2)})`,
  });
  pill.append(
    s("rect", { width: round(width), height: PILL, rx: PILL / 2 }),
    s("text", { x: round(width / 2), y: 11.5 }, text),
  );
  return pill;
}

/** Room for the text on an edge. */
export function pillWidth(text: string): number {
  return text === "" ? 0 : text.length * 5.6 + 14;
}

/** Cubic curves through points as Graphviz gives them: a start, then two handles and an end each. */
function curve(points: readonly number[]): string {
  const pair = (at: number) => `${round(points[at]!)} ${round(points[at + 1]!)}`;
  let text = `M${pair(0)}C`;
  for (let at = 2; at + 1 < points.length; at += 2) text += `${at === 2 ? "" : " "}${pair(at)}`;
  return text;
}

/** The look of a box for its precision or its error. */
function look(face: Face, scene: Scene): string {
  const mistake = scene.errors?.get(face.item);
  if (scene.errors === null) return face.precision === "" ? "" : precisionClass(face.precision);
  return mistake === undefined ? "err e-none" : `err e-${stepOf(mistake)}${mistake.within ? "" : " beyond"}`;
}

function boxGroup(face: Face, box: BoxPlace, scene: Scene): SVGGElement {
  const expanded = face.shape === "group" ? "false" : face.shape === "open" ? "true" : undefined;
  const group = s("g", {
    class: `box ${face.shape} ${look(face, scene)}`,
    id: `box-${face.item}`,
    "data-item": face.item,
    transform: `translate(${round(box.x)} ${round(box.y)})`,
    role: "treeitem",
    "aria-expanded": expanded,
    "aria-label": scene.label(face.item),
  }) as SVGGElement;
  group.append(
    ...(face.shape === "open" ? openParts(face, box) : face.shape === "cast" ? castParts(face) : boxParts(face)),
  );
  return group;
}

function openParts(face: Face, box: BoxPlace): Child[] & Node[] {
  return [
    s("rect", { class: "frame", width: round(box.width), height: round(box.height), rx: 6 }),
    s("text", { class: "title", x: 24, y: 17 }, face.title),
    sign("−", 7),
  ];
}

function sign(text: string, x: number): SVGElement {
  return s(
    "g",
    { class: "sign", "data-toggle": "" },
    s("rect", { x, y: 6, width: 13, height: 13, rx: 3 }),
    s("text", { x: x + 6.5, y: 16 }, text),
  );
}

function castParts(face: Face): Node[] {
  return [
    s("rect", { class: "body", width: face.width, height: face.height, rx: face.height / 2 }),
    s("text", { class: "small", x: face.width / 2, y: 13.2 }, face.title),
  ];
}

function boxParts(face: Face): Node[] {
  const group = face.shape === "group";
  const radius = face.shape === "end" ? 12 : 4;
  const parts: Node[] = [];
  if (group) parts.push(s("rect", { class: "shadow", x: 3, y: 3, width: face.width, height: face.height, rx: 5 }));
  parts.push(s("rect", { class: "body", width: face.width, height: face.height, rx: group ? 5 : radius }));
  if (face.shape === "leaf") parts.push(s("rect", { class: "stripe", width: 4, height: face.height, rx: 2 }));
  const indent = face.shape === "end" ? 13 : group ? 9 : 11;
  parts.push(s("text", { class: "title", x: indent, y: 16.5 }, face.title));
  const gap = face.shape === "end" ? 12 : group ? 25 : 7;
  if (face.mark !== "") parts.push(s("text", { class: "mark", x: face.width - gap, y: 16 }, face.mark));
  face.lines.forEach((line, at) => parts.push(lineText(line, indent, 29.5 + at * LINE)));
  if (group) parts.push(bar(face), sign("+", face.width - 19));
  return parts;
}

function lineText(line: Line, x: number, y: number): SVGElement {
  return s("text", { class: `small ${line.kind}`, x, y, "data-node": line.to >= 0 ? line.to : undefined }, line.text);
}

function bar(face: Face): SVGElement {
  const [width, y] = [face.width - 14, face.height - 10];
  const total = face.bar.reduce((sum, [, count]) => sum + count, 0);
  const group = s("g", { class: "bar", transform: `translate(7 ${y})` });
  let x = 0;
  for (const [precision, count] of [...face.bar].sort((one, other) => byPrecision(one[0], other[0]))) {
    const part = (count / total) * width;
    const rect = s("rect", {
      class: precisionClass(precision),
      x: round(x),
      width: Math.max(1, round(part - 0.5)),
      height: 5,
    });
    rect.append(s("title", {}, `${mark(precision)}: ${plural(count, "node")}`));
    group.append(rect);
    x += part;
  }
  return group;
}
