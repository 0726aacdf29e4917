/** The page: its state, and what changes it. Views are made anew from the state; only this module holds any. */

import { addressOf, keep, read } from "./address";
import { READABLE } from "./camera";
import type { Comparison, Difference, Document } from "./contract";
import { errorPanel, mistakeOf } from "./chart";
import { byId } from "./dom";
import { nodePanel } from "./details";
import { tellFailure, tellShown } from "./foot";
import { groupPanel } from "./group";
import type { Layout } from "./layout";
import { errorLegend, precisionLegend } from "./legend";
import { boundaryList, islandList, resultList } from "./lists";
import { bounded, mostOpen, revealed } from "./opening";
import { markOf, type Mistake, mistakes } from "./overlay";
import { closing, section } from "./parts";
import type { Links } from "./links";
import { type Model, nodeNamed } from "./model";
import { overview } from "./overview";
import { Picture, type View } from "./picture";
import { find, terms } from "./search";
import { type Direction, neighbour, standIn } from "./seen";
import { carried, counterpartItem, type Side, sideOf } from "./side";
import { summaryPanel } from "./summary";
import { isGroup } from "./tree";

const LEAST = 0.4; // scale that a step to a neighbour leaves as it is

export type Tab = "summary" | "search" | "boundaries" | "islands" | "errors";

export class Page {
  readonly picture: Picture;
  private readonly sides: { after: Side; before: Side | null };
  private before = false;
  private open: ReadonlySet<number>;
  private touched = false;
  private selected: number | null = null;
  private constants = false;
  private readonly constantsOf = new Set<string>();
  private errors = false;
  private query = "";
  private answer: { query: string; side: Side | null; found: readonly number[] } = { query: "", side: null, found: [] };
  private closed = 0;
  private readonly firsts = new Map<Side, ReadonlySet<number>>();
  private readonly errorsOf = new Map<Side, ReadonlyMap<number, Mistake>>();
  private readonly differences = new Map<string, Difference[]>();

  constructor(
    private readonly document: Document,
    private readonly comparison: Comparison | null,
    layout: Layout,
  ) {
    this.sides = { after: sideOf(document, false), before: null };
    this.open = this.side.openings[0]!;
    this.errors = comparison !== null;
    for (const one of comparison?.values ?? [])
      this.differences.set(one.node, [...(this.differences.get(one.node) ?? []), one]);
    this.picture = new Picture(byId("graph") as unknown as SVGSVGElement, layout, (scale) => {
      byId("scale").textContent = `${Math.round(scale * 100)} %`;
    });
  }

  get side(): Side {
    if (!this.before) return this.sides.after;
    this.sides.before ??= sideOf(this.document, true);
    return this.sides.before;
  }

  get hasErrors(): boolean {
    return this.comparison !== null;
  }

  /** The first picture, at the place that the address names. */
  async start(): Promise<void> {
    this.tab(this.comparison === null ? "summary" : "errors");
    await this.arrive();
    addEventListener("hashchange", () => void this.arrive());
  }

  /** Goes to the place that the address names. */
  private async arrive(): Promise<void> {
    const place = read(location.hash);
    this.before = place.before;
    this.touched = place.open !== null;
    this.open = await this.opened(place.open);
    const node = place.node === "" ? undefined : nodeNamed(this.side.model, place.node);
    const item = node !== undefined ? this.side.tree.itemOf[node]! : place.group;
    this.selected = item > 0 && item < this.side.tree.items.length ? item : null;
    if (this.selected !== null) this.open = revealed(this.side.tree, this.open, this.selected);
    await this.draw(null);
    this.picture.fit(true);
    this.details();
    if (this.selected !== null) this.picture.bring(this.selected);
  }

  /** Groups that an address has open, those of the start where it names none. */
  private async opened(open: readonly number[] | null): Promise<ReadonlySet<number>> {
    const { items } = this.side.tree;
    if (open === null) return this.first();
    return new Set(open.filter((id) => id > 0 && id < items.length && isGroup(items[id]!)));
  }

  /** What a side opens first: as much as can be read while all of it is in sight. */
  private async first(): Promise<ReadonlySet<number>> {
    const { side } = this;
    let found = this.firsts.get(side);
    if (found !== undefined) return found;
    found = side.openings[0]!;
    for (const open of side.openings.slice(1)) {
      const scale = await this.picture.fitting(this.view(open)).catch(() => 0); // what draws it tells why it cannot
      if (scale < READABLE) break;
      found = open;
    }
    this.firsts.set(side, found);
    return found;
  }

  private view(open: ReadonlySet<number>): View {
    const { side } = this;
    const errors = this.errors && !this.before ? this.overlayOf(side) : null;
    const marks = errors === null ? null : (item: number) => markOf(errors.get(item));
    return { side, open, shown: { constants: this.constants, constantsOf: this.constantsOf, marks }, errors };
  }

  /** Draws the state anew; `anchor` is the box that keeps its place. */
  private async draw(anchor: number | null): Promise<boolean> {
    const { side } = this;
    const rect = anchor === null ? null : (this.picture.places.get(anchor) ?? null);
    const bound = bounded(side.tree, this.open, anchor ?? this.selected ?? -1);
    this.open = bound.open;
    this.closed = bound.closed.length;
    const shown = this.picture.show(this.view(this.open), rect, anchor ?? -1);
    if (!(await shown.catch((error: unknown) => this.failed(error)))) return false;
    this.picture.select(this.selected);
    this.picture.mark(this.found());
    this.frame();
    this.remember();
    return true;
  }

  /** Tells that a layout failed, and takes back what was asked for: the state is again that of the picture. */
  private failed(error: unknown): false {
    console.error(error);
    const { view } = this.picture;
    if (view !== null) {
      if (view.side !== this.side) {
        this.selected = this.selected === null ? null : counterpartItem(this.side, view.side, this.selected);
        this.before = !this.before;
      }
      this.open = view.open;
      this.constants = view.shown.constants;
    }
    this.closed = 0;
    this.frame();
    tellFailure(error, view !== null);
    this.picture.select(this.selected);
    this.details();
    return false;
  }

  private overlayOf(side: Side): ReadonlyMap<number, Mistake> {
    const known = this.errorsOf.get(side) ?? mistakes(this.comparison!, side.model, side.tree);
    this.errorsOf.set(side, known);
    return known;
  }

  /** What stands around the picture: legend, count, state of buttons. */
  private frame(): void {
    tellShown(this.side, this.open, this.closed);
    this.legend(this.errors && !this.before ? "errors" : this.side);
    byId("toggle").setAttribute("aria-pressed", String(this.before));
    byId("toggle").textContent = this.before ? "Before" : "After";
    byId("weights").setAttribute("aria-pressed", String(this.constants));
    byId("colour").setAttribute("aria-pressed", String(this.errors));
    byId("colour").hidden = this.comparison === null;
  }

  private legendOf: Side | "errors" | null = null;

  private legend(what: Side | "errors"): void {
    if (this.legendOf === what) return;
    this.legendOf = what;
    byId("legend").replaceChildren(what === "errors" ? errorLegend() : precisionLegend(what.model.graph));
  }

  private remembering = 0;

  /** Keeps the state in the address, after what was asked for is seen: browsers take their time for it. */
  private remember(): void {
    clearTimeout(this.remembering);
    this.remembering = setTimeout(() => this.keepAddress(), 60);
  }

  private keepAddress(): void {
    keep(addressOf(this.side, this.selected, this.touched ? [...this.open] : null, this.before));
  }

  /** Opens or closes a group. */
  async toggle(item: number): Promise<void> {
    if (!isGroup(this.side.tree.items[item]!)) return;
    this.touched = true;
    const open = new Set(this.open);
    if (!open.delete(item)) open.add(item);
    this.open = open;
    if (this.selected !== null && !open.has(item)) this.selected = standIn(this.side.tree, open, this.selected);
    if (await this.draw(item)) this.picture.bring(item, LEAST);
  }

  /** Opens all groups inside an item, as far as the picture allows, or those of the start. */
  async openAll(all: boolean): Promise<void> {
    this.touched = all;
    this.open = all ? mostOpen(this.side.tree) : await this.first();
    this.selected = this.selected === null ? null : standIn(this.side.tree, this.open, this.selected);
    if (await this.draw(null)) this.picture.fit(!all);
  }

  /** Selects an item and tells of it; null for none. */
  select(item: number | null): void {
    this.selected = item;
    this.picture.select(item);
    this.details();
    this.remember();
  }

  private details(): void {
    const panel = byId("details");
    const { classList } = byId("page");
    if (classList.contains("with-details") !== (this.selected !== null)) {
      classList.toggle("with-details");
      this.picture.camera.resized();
    }
    if (this.selected === null) {
      const { model } = this.sides.after;
      panel.replaceChildren(overview(this.document, model, this.links(model), (tab) => this.tab(tab)));
      return;
    }
    const item = this.side.tree.items[this.selected]!;
    panel.replaceChildren(
      closing(() => this.select(null)),
      item.node >= 0
        ? this.nodeDetails(item.node)
        : groupPanel(this.document, this.side, item, (id) => void this.go(id)),
    );
    panel.scrollTop = 0;
  }

  private nodeDetails(node: number): HTMLElement {
    const doing = {
      ...this.links(this.side.model),
      constants: (id: string) => void this.toggleConstantsOf(id),
      constantsShown: (id: string) => this.constants || this.constantsOf.has(id),
    };
    const found = this.before ? [] : (this.differences.get(this.side.model.graph.nodes[node]!.id) ?? []);
    const errors = found.length === 0 ? null : section("Error", ...found.map(mistakeOf));
    return nodePanel(this.document, this.side.model, node, doing, errors);
  }

  /** Links of a panel that shows nodes of a model. */
  private links(model: Model): Links {
    return {
      node: (at) => void this.jumpById(model.graph.nodes[at]!.id),
      rule: (name) => {
        const query = `rule:"${name}"`;
        (byId("search") as HTMLInputElement).value = query;
        byId("page").classList.add("with-panel");
        this.search(query);
      },
    };
  }

  private async toggleConstantsOf(id: string): Promise<void> {
    if (!this.constantsOf.delete(id)) this.constantsOf.add(id);
    await this.draw(this.selected);
    this.details();
  }

  /** Goes to a node: opens what hides it, selects it and brings it into view. */
  async jump(node: number): Promise<void> {
    await this.go(this.side.tree.itemOf[node]!);
  }

  async jumpById(id: string): Promise<void> {
    if (this.before && this.side.model.nodeAt.get(id) === undefined) await this.flip();
    const node = this.side.model.nodeAt.get(id);
    if (node !== undefined) await this.jump(node);
  }

  async go(item: number): Promise<void> {
    const open = revealed(this.side.tree, this.open, item);
    this.selected = item;
    if (open.size !== this.open.size) {
      this.touched = true;
      this.open = open;
      if (!(await this.draw(null))) return;
      this.details();
    } else this.select(item);
    this.picture.bring(item);
  }

  /** Between before and after. What is selected and open stays so where the other side has it. */
  async flip(): Promise<void> {
    const from = this.side;
    const rect = this.selected === null ? null : this.picture.places.get(this.selected);
    this.before = !this.before;
    const to = this.side;
    this.open = this.touched ? carried(from.tree, to.tree, this.open) : await this.first();
    this.selected = this.selected === null ? null : counterpartItem(from, to, this.selected);
    if (this.selected !== null) this.open = revealed(to.tree, this.open, this.selected);
    if (!(await this.draw(null))) return;
    const now = this.selected === null ? undefined : this.picture.places.get(this.selected);
    const scale = this.picture.camera.scale();
    if (rect && now)
      this.picture.camera.move((rect.x + rect.width / 2 - now.x - now.width / 2) * scale, (rect.y - now.y) * scale);
    this.details();
    this.search(this.query, false);
    if (this.shown !== "search") this.tab(this.shown);
  }

  async toggleConstants(): Promise<void> {
    this.constants = !this.constants;
    await this.draw(this.selected ?? this.side.tree.items[0]!.children[0] ?? null);
    this.details();
  }

  async toggleErrors(): Promise<void> {
    if (this.comparison === null) return;
    this.errors = !this.errors;
    await this.draw(this.selected);
  }

  /** To the box that an arrow key leads to. */
  step(direction: Direction): void {
    const { side } = this;
    const first = side.tree.items[0]!.children[0];
    const next =
      this.selected === null ? first : neighbour(side, this.open, this.picture.places, this.selected, direction);
    if (next === null || next === undefined) return;
    this.select(next);
    this.picture.bring(next, LEAST);
  }

  /** Opens or closes what is selected. */
  async enter(): Promise<void> {
    if (this.selected !== null) await this.toggle(this.selected);
  }

  private shown: Tab = "summary";

  /** Shows a tab of the left panel. */
  tab(tab: Tab): void {
    this.shown = tab;
    for (const button of document.querySelectorAll<HTMLElement>("[data-tab]")) {
      button.hidden = button.dataset["tab"] === "errors" && this.comparison === null;
      button.setAttribute("aria-selected", String(button.dataset["tab"] === tab));
    }
    byId("panel").replaceChildren(this.panel(tab));
    byId("panel").scrollTop = 0;
  }

  private panel(tab: Tab): HTMLElement {
    const after = this.sides.after.model;
    if (tab === "boundaries") return boundaryList(this.document, after, this.links(after));
    if (tab === "islands") return islandList(this.document, after, this.links(after));
    if (tab === "errors" && this.comparison !== null)
      return errorPanel(this.comparison, (one) => void this.jumpById(one.node));
    if (tab === "search") return this.results();
    return summaryPanel(this.document, after, this.links(after));
  }

  private results(): HTMLElement {
    const { side } = this;
    return resultList(this.document, side.model, this.found(), this.query, this.links(side.model));
  }

  /** What the search finds on this side; asked for with every picture, so the last answer is kept. */
  private found(): readonly number[] {
    if (this.answer.query !== this.query || this.answer.side !== this.side) {
      this.answer = { query: this.query, side: this.side, found: find(this.side.index, terms(this.query)) };
    }
    return this.answer.found;
  }

  /** Finds nodes; lists and marks them. */
  search(query: string, show = true): void {
    this.query = query;
    this.picture.mark(this.found());
    if (show || this.shown === "search") this.tab("search");
  }

  /** The first result of the search. */
  async firstFound(): Promise<void> {
    const [node] = this.found();
    if (node !== undefined) await this.jump(node);
  }
}
