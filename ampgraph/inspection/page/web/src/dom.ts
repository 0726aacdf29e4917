/** Elements from data. Text always becomes text nodes: nothing of a document is ever read as HTML. */

export type Child = Node | string | null | undefined | false;
type Properties = Readonly<Record<string, string | number | boolean | undefined | ((event: Event) => void)>>;

const SVG = "http://www.w3.org/2000/svg";

/** An HTML element; functions are listeners, the rest attributes. */
export function h(tag: string, properties: Properties = {}, ...children: Child[]): HTMLElement {
  return fill(document.createElement(tag), properties, children);
}

/** An SVG element. */
export function s(tag: string, properties: Properties = {}, ...children: Child[]): SVGElement {
  return fill(document.createElementNS(SVG, tag) as SVGElement, properties, children);
}

function fill<E extends Element>(element: E, properties: Properties, children: readonly Child[]): E {
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === false) continue;
    if (typeof value === "function") element.addEventListener(name, value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(
    ...children.filter((child): child is Node | string => child !== null && child !== undefined && child !== false),
  );
  return element;
}

/** A name of the model: its direction is its own. */
export function name(text: string, properties: Properties = {}): HTMLElement {
  return h("bdi", properties, text);
}

/** An element that the page is known to have. */
export function byId(id: string): HTMLElement {
  return document.getElementById(id)!;
}
