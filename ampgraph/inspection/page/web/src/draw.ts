/** A placed picture as SVG. What was drawn before and is still the same stays: only what is new is laid out and painted. */

import type { Rect } from "./camera";
import { s } from "./dom";
import { boxGroup, round, type Scene } from "./faces";
import type { Edge } from "./levels";
import { type BoxPlace, type EdgePath, FRAME, type LevelPlace, PILL, type PillPlace } from "./request";

/** What was drawn, to be drawn on. `wires` of a path are those that it stands for. */
export interface Drawing {
  readonly element: SVGGElement;
  readonly boxes: Map<number, SVGGElement>;
  readonly places: Map<number, Rect>;
  readonly paths: { readonly element: Element; readonly wires: readonly number[] }[];
  readonly sheets: Map<number, Sheet>;
  readonly looks: Map<number, string>; // all that a box shows, by item
}

/** The layers of a level, the lowest first. `drawn`: all that the lines and the marks show. */
interface Sheet {
  readonly element: SVGGElement;
  readonly frames: SVGElement;
  readonly lines: SVGElement;
  readonly boxes: SVGElement;
  readonly marks: SVGElement;
  drawn: string;
}

interface Hand {
  readonly scene: Scene;
  readonly drawing: Drawing;
  readonly former: Drawing | null;
}

/** Draws all levels, over what was drawn of the same graph before. */
export function drawn(place: LevelPlace, scene: Scene, former: Drawing | null): Drawing {
  const sheet = former?.sheets.get(place.item) ?? newSheet();
  const drawing: Drawing = {
    element: sheet.element,
    boxes: new Map(),
    places: new Map(),
    paths: [],
    sheets: new Map([[place.item, sheet]]),
    looks: new Map(),
  };
  drawLevel(place, { scene, drawing, former }, sheet, 0, 0);
  return drawing;
}

function newSheet(): Sheet {
  const [frames, boxes] = [s("g"), s("g")];
  const [lines, marks] = [s("g", { class: "edges", "aria-hidden": "true" }), s("g", { "aria-hidden": "true" })];
  const element = s("g", { role: "group" }, frames, lines, boxes, marks) as SVGGElement;
  return { element, frames, lines, boxes, marks, drawn: "" };
}

function drawLevel(place: LevelPlace, hand: Hand, sheet: Sheet, x: number, y: number): void {
  drawLines(place, hand, sheet);
  const boxes: SVGGElement[] = [];
  const frames: SVGGElement[] = [];
  for (const box of place.boxes) {
    const item = Number(box.id.slice(1));
    const group = drawBox(place.item, item, box, hand);
    hand.drawing.places.set(item, { x: x + box.x, y: y + box.y, width: box.width, height: box.height });
    (box.inside === null ? boxes : frames).push(group);
    if (box.inside !== null) drawInside(item, box, box.inside, group, hand, x, y);
  }
  arranged(sheet.frames, frames);
  arranged(sheet.boxes, boxes);
}

function drawBox(level: number, item: number, box: BoxPlace, { scene, drawing, former }: Hand): SVGGElement {
  const face = scene.faces.get(level)!.get(item)!;
  const { width, height } = box.inside === null ? face : { width: 0, height: 0 };
  const look = JSON.stringify([{ ...face, width, height }, scene.look(face), scene.label(item)]);
  const known = former?.looks.get(item) === look ? former.boxes.get(item) : undefined;
  const group = known ?? boxGroup(face, scene);
  put(group, "transform", `translate(${round(box.x)} ${round(box.y)})`);
  drawing.boxes.set(item, group);
  drawing.looks.set(item, look);
  return group;
}

function drawInside(
  item: number,
  box: BoxPlace,
  inside: LevelPlace,
  group: SVGGElement,
  hand: Hand,
  x: number,
  y: number,
): void {
  const sheet = hand.former?.sheets.get(item) ?? newSheet();
  hand.drawing.sheets.set(item, sheet);
  const [left, top] = [(box.width - inside.width) / 2, FRAME.head];
  put(group.firstElementChild!, "width", String(round(box.width)));
  put(group.firstElementChild!, "height", String(round(box.height)));
  put(sheet.element, "transform", `translate(${round(left)} ${top})`);
  if (sheet.element.parentNode !== group) group.append(sheet.element);
  drawLevel(inside, hand, sheet, x + box.x + left, y + box.y + top);
}

/** Sets an attribute unless it is so already: setting it would make the browser work for nothing. */
function put(element: Element, name: string, value: string): void {
  if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

/** Makes `wanted` the children of a parent, in order; those that are in their place are not touched. */
function arranged(parent: Element, wanted: readonly Element[]): void {
  const kept = new Set(wanted);
  for (const child of [...parent.children]) if (!kept.has(child)) child.remove();
  let next = parent.firstElementChild;
  for (const child of wanted) {
    if (child === next) next = child.nextElementSibling;
    else parent.insertBefore(child, next);
  }
}

interface Stroke {
  readonly edge: Edge;
  readonly attributes: Readonly<Record<string, string | number | undefined>>;
}

function drawLines(place: LevelPlace, { scene, drawing }: Hand, sheet: Sheet): void {
  const edges = scene.levels.get(place.item)!.edges.filter((edge) => edge.drawn);
  const strokes = place.edges.map((path) => stroke(path, edges[path.edge]!, scene));
  const ports = portLines(place);
  const pills = place.pills.map((pill) => pillParts(pill, edges[pill.edge]!, scene));
  const text = JSON.stringify([strokes.map((one) => one.attributes), ports, pills]);
  if (text !== sheet.drawn) {
    const plain = ports.map((d) => s("path", { class: "edge", d }));
    sheet.lines.replaceChildren(...strokes.map((one) => s("path", one.attributes)), ...plain);
    sheet.marks.replaceChildren(...pills.map(drawPill));
    sheet.drawn = text;
  }
  strokes.forEach(({ edge }, at) => drawing.paths.push({ element: sheet.lines.children[at]!, wires: edge.wires }));
}

/** Lines through the border of an open box, where an edge inside goes on outside. */
function portLines(place: LevelPlace): string[] {
  const used = (name: string) => (_: number, at: number) =>
    place.edges.some((path) => path.from === `${name}${at}` || path.to === `${name}${at}`);
  return [
    ...place.ins.filter(used("i")).map((at) => `M${round(at)} ${-FRAME.head}V1`),
    ...place.outs.filter(used("o")).map((at) => `M${round(at)} ${round(place.height) - 1}v${FRAME.foot + 1}`),
  ];
}

function stroke(path: EdgePath, edge: Edge, scene: Scene): Stroke {
  const width = round(Math.min(5, 1.1 + Math.log2(edge.wires.length) * 0.7));
  const kind = scene.crossing(edge) === "" ? "edge" : "edge crossing";
  const arrow = path.to.startsWith("n") ? "url(#arrow)" : undefined;
  return { edge, attributes: { class: kind, d: curve(path.points), "stroke-width": width, "marker-end": arrow } };
}

interface Pill {
  readonly text: string;
  readonly wires: string;
  readonly width: number;
  readonly transform: string;
}

function pillParts(place: PillPlace, edge: Edge, scene: Scene): Pill {
  const text = scene.crossing(edge);
  const width = pillWidth(text);
  const wires = edge.wires.slice(0, 200).join(",");
  return {
    text,
    wires,
    width: round(width),
    transform: `translate(${round(place.x - width / 2)} ${round(place.y - PILL / 2)})`,
  };
}

function drawPill({ text, wires, width, transform }: Pill): SVGElement {
  return s(
    "g",
    { class: "pill", "data-wires": wires, transform },
    s("rect", { width, height: PILL, rx: PILL / 2 }),
    s("text", { x: round(width / 2), y: 11.5 }, text),
  );
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
