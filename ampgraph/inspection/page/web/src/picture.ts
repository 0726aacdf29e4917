/** The picture: asks for places, draws them, shows what is selected and found. */

import { type Face, facesOf, type Font, type Measure, shortType, type Shown } from "./boxes";
import { type Camera, cameraOf, type Rect } from "./camera";
import { s } from "./dom";
import { type Drawing, drawn, pillWidth } from "./draw";
import type { Scene } from "./faces";
import * as format from "./format";
import type { Layout } from "./layout";
import { type Edge, type Level, levelsOf } from "./levels";
import { clipped } from "./names";
import { type Mistake, stepOf } from "./overlay";
import { mark, precisionClass } from "./precision";
import { type LevelRequest, requestOf } from "./request";
import { crossingWires, standIn, standIns } from "./seen";
import type { Side } from "./side";
import { holders, isGroup } from "./tree";

/** What is to be shown. */
export interface View {
  readonly side: Side;
  readonly open: ReadonlySet<number>;
  readonly shown: Shown;
  readonly errors: ReadonlyMap<number, Mistake> | null;
}

const NEAR = 0.7; // scale at which a box that was jumped to is read with ease
const OVERLAID = 80; // lines for edges that are not drawn, when their end is selected

export class Picture {
  readonly camera: Camera;
  private drawing: Drawing | null = null;
  /** What it shows; null before the first picture. */
  view: View | null = null;
  private turn = 0;
  private readonly scene = s("g") as SVGGElement;
  private readonly overlay = s("g", { class: "overlay", "aria-hidden": "true" });
  private size: Rect = { x: 0, y: 0, width: 1, height: 1 };

  constructor(
    private readonly frame: SVGSVGElement,
    private readonly layout: Layout,
    zoomed: (scale: number) => void,
  ) {
    frame.append(this.scene);
    this.camera = cameraOf(frame, this.scene, zoomed);
  }

  get places(): ReadonlyMap<number, Rect> {
    return this.drawing?.places ?? new Map();
  }

  /** The scale at which all of a view would be in sight. */
  async fitting(view: View): Promise<number> {
    const { width, height } = await this.layout(composed(view).request);
    return this.camera.fitting({ x: 0, y: 0, width, height });
  }

  /**
   * Shows a view. The `anchor` box stays where it is on the screen. False where a later call overtook this one. Throws
   * what the layout throws, and then shows what it did.
   */
  async show(view: View, anchor: Rect | null, anchored: number): Promise<boolean> {
    this.turn += 1;
    const turn = this.turn;
    const { scene, request } = composed(view);
    this.frame.setAttribute("aria-busy", "true");
    const asked = await this.layout(request).catch((error: unknown) => ({ error }));
    if (turn !== this.turn) return false;
    this.frame.removeAttribute("aria-busy");
    if ("error" in asked) throw asked.error;
    const place = asked;
    this.drawing = drawn(place, scene, this.view?.side === view.side ? this.drawing : null);
    this.view = view;
    this.size = { x: 0, y: 0, width: place.width, height: place.height };
    this.overlay.replaceChildren();
    if (this.drawing.element.parentNode !== this.scene) this.scene.replaceChildren(this.drawing.element, this.overlay);
    const now = this.drawing.places.get(anchored);
    if (anchor !== null && now !== undefined) {
      const scale = this.camera.scale();
      this.camera.move((anchor.x + anchor.width / 2 - now.x - now.width / 2) * scale, (anchor.y - now.y) * scale);
    }
    return true;
  }

  /** Marks a box and all edges of it; null for none. */
  select(item: number | null): void {
    this.overlay.replaceChildren();
    this.frame.classList.toggle("choosing", item !== null);
    const box = item === null ? undefined : this.drawing?.boxes.get(item);
    if (box === undefined) this.frame.removeAttribute("aria-activedescendant");
    else this.frame.setAttribute("aria-activedescendant", box.id);
    for (const old of this.scene.querySelectorAll(".selected")) if (old !== box) old.classList.remove("selected");
    box?.classList.add("selected");
    const wanted = new Set<number>();
    if (item !== null && this.view !== null) {
      const { coming, going } = crossingWires(this.view.side, item);
      for (const wire of [...coming, ...going]) wanted.add(wire);
    }
    for (const path of this.drawing?.paths ?? [])
      path.element.classList.toggle(
        "lit",
        path.wires.some((wire) => wanted.has(wire)),
      );
    if (this.drawing !== null) this.overlayLines(wanted);
  }

  /** Lines for what the level tells in words only. */
  private overlayLines(wanted: ReadonlySet<number>): void {
    const drawing = this.drawing!;
    const { side, open } = this.view!;
    const covered = new Set(drawing.paths.flatMap((path) => path.wires));
    const pairs = new Set<string>();
    for (const at of wanted) {
      if (covered.has(at)) continue;
      const wire = side.model.wires[at]!;
      const ends = [wire.from, wire.to].map((node) => standIn(side.tree, open, side.tree.itemOf[node]!));
      if (pairs.size < OVERLAID && ends[0] !== ends[1]) pairs.add(ends.join());
    }
    for (const pair of pairs) {
      const [from, to] = pair.split(",").map((id) => drawing.places.get(Number(id)));
      if (from === undefined || to === undefined) continue;
      const [x1, y1, x2, y2] = [from.x + from.width / 2, from.y + from.height, to.x + to.width / 2, to.y];
      const bend = Math.max(30, Math.abs(y2 - y1) / 3);
      this.overlay.append(
        s("path", { class: "far", d: `M${x1} ${y1}C${x1} ${y1 + bend} ${x2} ${y2 - bend} ${x2} ${y2}` }),
      );
    }
  }

  /** Marks what a search found, and the groups that hide some of it. */
  mark(nodes: readonly number[]): void {
    if (this.view === null || this.drawing === null) return;
    const { boxes } = this.drawing;
    const found = standIns(this.view.side.tree, this.view.open, nodes);
    const wanted = new Set([...found].flatMap((item) => boxes.get(item) ?? []));
    for (const old of this.scene.querySelectorAll(".hit"))
      if (!wanted.has(old as SVGGElement)) old.classList.remove("hit");
    for (const box of wanted) box.classList.add("hit");
  }

  /** The whole picture, or as much as can be read. */
  fit(start: boolean): void {
    if (start) this.camera.start(this.size);
    else this.camera.whole(this.size);
  }

  /** Brings a box into view, and close enough to be read, unless it is both. */
  bring(item: number, least = NEAR): void {
    const rect = this.places.get(item);
    if (rect === undefined) return;
    const { width, height } = this.camera.size();
    const [left, top] = this.camera.onScreen(rect.x, rect.y);
    const [right, bottom] = this.camera.onScreen(rect.x + rect.width, rect.y + rect.height);
    const inside = left > 8 && top > 8 && right < width - 8 && bottom < height - 8;
    if (!inside || this.camera.scale() < least)
      this.camera.show(rect.height * this.camera.scale() > height ? { ...rect, height: 40 } : rect);
  }
}

/** What is to be drawn of a view, and what the layout is to be asked. */
function composed(view: View): { scene: Scene; request: LevelRequest } {
  const { model, tree, pairs } = view.side;
  const levels = new Map<number, Level>();
  const faces = new Map<number, Map<number, Face>>();
  const visit = (one: Level): void => {
    levels.set(one.item, one);
    faces.set(one.item, facesOf(model, tree, one, view.shown, measure));
    one.inside.forEach(visit);
  };
  const outermost = levelsOf(model, tree, pairs, view.open);
  visit(outermost);
  const texts = new Map([...levels.values()].flatMap((one) => one.edges.map((edge) => [edge, crossing(view, edge)])));
  const text = (edge: Edge) => texts.get(edge) ?? "";
  const label = (item: number) => labelOf(view.side, item);
  const look = (face: Face) => lookOf(view, face);
  const request = requestOf(outermost, faces, (edge) => pillWidth(text(edge)));
  return { scene: { levels, faces, crossing: text, label, look }, request };
}

const fonts: Readonly<Record<Font, string>> = {
  title: "600 12px system-ui, sans-serif",
  small: "11px system-ui, sans-serif",
};
const context = document.createElement("canvas").getContext("2d")!;
const widths = new Map<string, number>();

const measure: Measure = (text, font) => {
  const key = font + text;
  const known = widths.get(key);
  if (known !== undefined) return known;
  context.font = fonts[font];
  const { width } = context.measureText(text);
  widths.set(key, width);
  return width;
};

/** The text of the boundaries on an edge: at the level where both ends are boxes, unless a cast's own box tells it. */
function crossing(view: View, edge: Edge): string {
  const { side } = view;
  if (!edge.from.startsWith("n") || !edge.to.startsWith("n")) return "";
  const found = new Set(
    edge.wires.map((wire) => side.model.wires[wire]!.boundary).filter((at) => at >= 0 && !castSeen(view, at)),
  );
  if (found.size === 0) return "";
  const all = [...found].map((at) => side.model.graph.boundaries[at]!);
  const total = all.reduce((sum, one) => sum + (one.bytes ?? 0), 0);
  const ways = new Set(all.map((one) => `${mark(one.source)} → ${mark(one.target)}`));
  const way = ways.size === 1 ? [...ways][0] : `${all.length} boundaries`;
  return `${way}  ${all.every((one) => one.bytes === null) ? "? B" : format.bytes(total)}`;
}

function castSeen({ side, open }: View, boundary: number): boolean {
  const cast = side.model.nodeAt.get(side.model.graph.boundaries[boundary]!.cast);
  return cast !== undefined && holders(side.tree, side.tree.itemOf[cast]!).every((holder) => open.has(holder));
}

/** The colours of a box: of its precision or of its error. */
function lookOf({ errors }: View, face: Face): string {
  if (errors === null) return face.precision === "" ? "" : precisionClass(face.precision);
  const mistake = errors.get(face.item);
  return mistake === undefined ? "err e-none" : `err e-${stepOf(mistake)}${mistake.within ? "" : " beyond"}`;
}

function labelOf(side: Side, id: number): string {
  const item = side.tree.items[id]!;
  const node = side.model.graph.nodes[item.node];
  if (node !== undefined && !isGroup(item))
    return clipped(`${shortType(node.type)} ${node.name}, ${node.precision}`, 120);
  return clipped(`${item.label || item.type}, group of ${format.plural(item.size - item.casts, "node")}`, 120);
}
