/** Reads what the page carries and sets it going. */

import type { Comparison, Document } from "./contract";
import { bytesOf, embedded } from "./decode";
import { byId, h } from "./dom";
import { frameOf } from "./frame";
import { listen } from "./keys";
import { layoutIn } from "./layout";
import { visible } from "./names";
import { Page, type Tab } from "./page";

async function begin(): Promise<void> {
  const texts = Promise.all([embedded("document"), embedded("comparison")]);
  const [code, engine] = await Promise.all([embedded("layout"), bytesOf("engine")]);
  const layout = layoutIn(code, engine); // it gets ready while the document is read
  const [data, compared] = await texts;
  const model = JSON.parse(data) as Document;
  const comparison = compared === "" ? null : (JSON.parse(compared) as Comparison);
  document.body.replaceChildren(frameOf(model));
  document.title = `${visible(model.name).slice(0, 120)} – ampgraph`;
  const page = new Page(model, comparison, layout);
  connect(page);
  listen(page);
  await page.start();
  document.documentElement.dataset["ready"] = "";
}

function connect(page: Page): void {
  const click = (id: string, act: () => void) => byId(id).addEventListener("click", act);
  for (const tab of document.querySelectorAll<HTMLElement>("[data-tab]"))
    tab.addEventListener("click", () => page.tab(tab.dataset["tab"] as Tab));
  click("toggle", () => void page.flip());
  click("weights", () => void page.toggleConstants());
  click("colour", () => void page.toggleErrors());
  click("reset", () => void page.openAll(false));
  click("open-all", () => void page.openAll(true));
  click("question", () => (byId("help") as HTMLDialogElement).showModal());
  click("help-close", () => (byId("help") as HTMLDialogElement).close());
  click("zoom-in", () => page.picture.camera.zoom(1.3));
  click("zoom-out", () => page.picture.camera.zoom(1 / 1.3));
  click("fit", () => page.picture.fit(false));
  click("panel-toggle", () => byId("page").classList.toggle("with-panel"));
  searching(page, byId("search") as HTMLInputElement);
  pointing(page, byId("graph"));
  printing(byId("graph"));
}

function searching(page: Page, field: HTMLInputElement): void {
  field.addEventListener("input", () => {
    byId("page").classList.add("with-panel");
    page.search(field.value);
  });
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter") void page.firstFound();
  });
}

function pointing(page: Page, graph: HTMLElement): void {
  const box = (event: Event) => (event.target as Element).closest<SVGElement>("[data-item]");
  graph.addEventListener("click", (event) => {
    const target = event.target as Element;
    const found = box(event);
    const far = target.closest<SVGElement>("[data-node]");
    if (far !== null) void page.jump(Number(far.dataset["node"]));
    else if (target.closest(".pill") !== null) void pill(page, target.closest<SVGElement>(".pill")!);
    else if (found !== null && target.closest("[data-toggle]") !== null)
      void page.toggle(Number(found.dataset["item"]));
    else page.select(found === null ? null : Number(found.dataset["item"]));
  });
  graph.addEventListener("dblclick", (event) => {
    const found = box(event);
    if (found !== null && (event.target as Element).closest("[data-toggle], [data-node]") === null)
      void page.toggle(Number(found.dataset["item"]));
  });
}

/** A boundary on an edge leads to its cast, or to who makes its value. */
async function pill(page: Page, element: SVGElement): Promise<void> {
  const { wires, graph, nodeAt } = page.side.model;
  const at = (element.dataset["wires"] ?? "")
    .split(",")
    .map((wire) => wires[Number(wire)]?.boundary ?? -1)
    .find((one) => one >= 0);
  const boundary = graph.boundaries[at ?? -1];
  const node =
    boundary === undefined
      ? undefined
      : (nodeAt.get(boundary.cast) ?? nodeAt.get(boundary.maker) ?? nodeAt.get(boundary.readers[0] ?? ""));
  if (node !== undefined) await page.jump(node);
}

/** On paper the picture is what was seen, as large as the paper allows. */
function printing(graph: HTMLElement): void {
  addEventListener("beforeprint", () => {
    const { width, height } = graph.getBoundingClientRect();
    graph.setAttribute("viewBox", `0 0 ${width} ${height}`);
  });
  addEventListener("afterprint", () => graph.removeAttribute("viewBox"));
}

begin().catch((error: unknown) => {
  document.body.replaceChildren(
    h(
      "p",
      { class: "failed", role: "alert" },
      `This page cannot be shown: ${error instanceof Error ? error.message : String(error)}`,
    ),
  );
  throw error;
});
