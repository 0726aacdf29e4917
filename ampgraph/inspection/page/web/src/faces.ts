/** One box as SVG: its outline, its texts, its bar of precisions. */

import type { Face, Line } from "./boxes";
import { LINE } from "./boxes";
import { s } from "./dom";
import { plural } from "./format";
import type { Edge, Level } from "./levels";
import { byPrecision, mark, precisionClass } from "./precision";

/** Everything that a picture is drawn from. */
export interface Scene {
  readonly levels: ReadonlyMap<number, Level>;
  readonly faces: ReadonlyMap<number, ReadonlyMap<number, Face>>;
  readonly crossing: (edge: Edge) => string; // text of a boundary on an edge, "" for none
  readonly label: (item: number) => string; // for those who do not see the picture
  readonly look: (face: Face) => string; // classes that colour a box
}

/** A box without its place; an open one is as large as what it holds, and has no size yet. */
export function boxGroup(face: Face, scene: Scene): SVGGElement {
  const expanded = face.shape === "group" ? "false" : face.shape === "open" ? "true" : undefined;
  const parts = { open: openParts, cast: castParts, leaf: boxParts, end: boxParts, group: boxParts }[face.shape](face);
  return s(
    "g",
    {
      class: `box ${face.shape} ${scene.look(face)}`,
      id: `box-${face.item}`,
      "data-item": face.item,
      role: "treeitem",
      "aria-expanded": expanded,
      "aria-label": scene.label(face.item),
    },
    ...parts,
  ) as SVGGElement;
}

function openParts(face: Face): Node[] {
  return [s("rect", { class: "frame", rx: 6 }), s("text", { class: "title", x: 24, y: 17 }, face.title), sign("−", 7)];
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

/** Places to a tenth of a pixel. */
export function round(value: number): number {
  return Math.round(value * 10) / 10;
}
