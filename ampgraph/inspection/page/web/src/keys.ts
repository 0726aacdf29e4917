/** The keyboard. */

import { byId } from "./dom";
import type { Page } from "./page";
import type { Direction } from "./seen";

const ARROWS: Readonly<Record<string, Direction>> = {
  ArrowUp: "up",
  ArrowDown: "down",
  ArrowLeft: "left",
  ArrowRight: "right",
};

/** Listens to keys; those typed into a field stay there, but for Escape. */
export function listen(page: Page): void {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const target = event.target as HTMLElement;
    const typing = target instanceof HTMLInputElement;
    if (event.key === "Escape") escape(page, target);
    else if (typing || (event.key === "Enter" && target instanceof HTMLButtonElement)) return;
    else if (!acted(page, event.key, target)) return;
    event.preventDefault();
  });
}

function escape(page: Page, target: HTMLElement): void {
  const help = byId("help") as HTMLDialogElement;
  if (help.open) help.close();
  else if (target instanceof HTMLInputElement) byId("graph").focus();
  else page.select(null);
  byId("page").classList.remove("with-panel");
}

/** True where the key meant something. */
function acted(page: Page, key: string, target: HTMLElement): boolean {
  const arrow = ARROWS[key];
  if (arrow !== undefined) {
    if (target.closest("#panel, #details, nav")) return false;
    page.step(arrow);
    return true;
  }
  const act = actions(page)[key];
  act?.();
  return act !== undefined;
}

function actions(page: Page): Readonly<Record<string, () => void>> {
  const tab = (name: "summary" | "boundaries" | "islands" | "errors") => () => {
    byId("page").classList.add("with-panel");
    page.tab(name);
  };
  return {
    "/": () => (byId("search") as HTMLInputElement).select(),
    Enter: () => void page.enter(),
    " ": () => void page.enter(),
    b: tab("boundaries"),
    i: tab("islands"),
    s: tab("summary"),
    e: () => (page.hasErrors ? tab("errors")() : undefined),
    t: () => void page.flip(),
    w: () => void page.toggleConstants(),
    c: () => void page.toggleErrors(),
    f: () => page.picture.fit(false),
    "0": () => void page.openAll(false),
    "+": () => page.picture.camera.zoom(1.3),
    "=": () => page.picture.camera.zoom(1.3),
    "-": () => page.picture.camera.zoom(1 / 1.3),
    "?": () => (byId("help") as HTMLDialogElement).showModal(),
  };
}
