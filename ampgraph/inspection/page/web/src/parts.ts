/** Parts that all panels are made of. */

import { type Child, h, name } from "./dom";
import { clipped, visible } from "./names";
import { mark, precisionClass } from "./precision";

const LONG = 160;

/** A name of the model, clipped where it is long; the whole of it on demand. */
export function nameOf(text: string, limit = LONG): HTMLElement {
  if (text.length <= limit) return name(visible(text), { class: "name" });
  const whole = visible(text);
  const shown = name(clipped(text, limit), { class: "name" });
  const button = h(
    "button",
    { class: "more", type: "button", "aria-expanded": "false" },
    `all ${text.length} characters`,
  );
  button.addEventListener("click", () => {
    const open = button.getAttribute("aria-expanded") === "true";
    shown.textContent = open ? clipped(text, limit) : whole;
    button.setAttribute("aria-expanded", String(!open));
    button.textContent = open ? `all ${text.length} characters` : "less";
  });
  return h("span", { class: "long" }, shown, " ", button);
}

/** A name in few characters, for places where the whole of it is one click away. */
export function brief(text: string, limit: number): HTMLElement {
  return name(clipped(text, limit), { class: "name" });
}

/** Mark of a precision with its colour. */
export function chip(precision: string): HTMLElement {
  return h("span", { class: `chip ${precisionClass(precision)}`, title: precision || "no float" }, mark(precision));
}

/** A heading with what belongs to it. */
export function section(title: string, ...children: Child[]): HTMLElement {
  return h("section", {}, h("h3", {}, title), ...children);
}

/** Rows of a term and what it is; rows of null are left out. */
export function facts(rows: readonly (readonly [string, Child] | null)[]): HTMLElement {
  const list = h("dl", { class: "facts" });
  for (const row of rows)
    if (row !== null && row[1] !== "" && row[1] !== null)
      list.append(h("dt", {}, row[0]), h("dd", {}, row[1] as Node | string));
  return list;
}

/** A button that reads as a link. */
export function link(act: () => void, ...children: Child[]): HTMLElement {
  return h("button", { class: "link", type: "button", click: act }, ...children);
}

/** The button that closes a panel. */
export function closing(act: () => void): HTMLElement {
  return h("button", { class: "close", type: "button", "aria-label": "close", click: act }, "×");
}

/** Rows of a list, the first `first` of them at once and the rest on demand, `next` with every click. */
export function rows<T>(
  items: readonly T[],
  row: (item: T, at: number) => HTMLElement,
  first = 100,
  next = first,
): HTMLElement {
  const list = h("ol", { class: "rows" });
  let shown = 0;
  const more = h("button", { class: "more", type: "button" });
  const extend = (): void => {
    const added = items.slice(shown, shown + (shown === 0 ? first : next));
    list.append(...added.map((item, at) => row(item, shown + at)));
    shown += added.length;
    const left = items.length - shown;
    more.textContent = `${Math.min(left, next)} more of ${left} left out`;
    more.hidden = left === 0;
  };
  more.addEventListener("click", extend);
  extend();
  return h("div", {}, list, more);
}
