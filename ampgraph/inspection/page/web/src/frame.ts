/** The fixed parts of the page. */

import type { Document } from "./contract";
import { h, s } from "./dom";
import { nameOf } from "./parts";
import { visible } from "./names";

const TABS = [
  ["summary", "Summary"],
  ["search", "Search"],
  ["boundaries", "Boundaries"],
  ["islands", "Islands"],
  ["errors", "Errors"],
] as const;

const KEYS = [
  ["/", "search"],
  ["↑ ↓", "along the edges"],
  ["← →", "to what lies beside"],
  ["Enter", "open or close a group"],
  ["b", "boundaries, by cost"],
  ["i", "float32 islands"],
  ["e", "errors of a comparison"],
  ["s", "summary"],
  ["t", "before or after"],
  ["w", "constants in the picture"],
  ["c", "colours: precision or error"],
  ["f", "fit the picture"],
  ["0", "as at the start"],
  ["+ −", "zoom"],
  ["Esc", "back"],
] as const;

/** The page without content. */
export function frameOf(document: Document): HTMLElement {
  const state = { converted: "converted", planned: "planned", found: "as found" }[document.state];
  const facts = [
    state,
    document.dialect === "onnx" ? "ONNX" : document.dialect,
    document.precision,
    document.device,
  ].filter((word) => word !== "");
  return h(
    "div",
    { id: "page" },
    h(
      "header",
      { class: "top" },
      button("panel-toggle", "☰", "panel"),
      h("h1", {}, nameOf(document.name, 60)),
      h("p", { class: "facts-line" }, facts.map(visible).join(" · ")),
      h("input", {
        id: "search",
        type: "search",
        placeholder: "Search: name, op:Softmax, rule:…, precision:f32",
        "aria-label": "Search nodes",
        autocomplete: "off",
        spellcheck: "false",
      }),
      h(
        "div",
        { class: "tools" },
        h("span", { class: "label" }, "Graph"),
        button("toggle", "After", "before or after the conversion (t)"),
        button("weights", "Constants", "constants in the picture (w)"),
        button("colour", "Errors", "colours: precision or error (c)"),
        button("reset", "Reset", "groups as at the start (0)"),
        button("open-all", "Open all", "open groups as far as the picture allows"),
        button("question", "?", "keys (?)"),
      ),
    ),
    h(
      "aside",
      { id: "left", "aria-label": "model" },
      h(
        "nav",
        { role: "tablist", "aria-label": "panels" },
        ...TABS.map(([id, title]) =>
          h("button", { type: "button", role: "tab", "data-tab": id, "aria-controls": "panel" }, title),
        ),
      ),
      h("div", { id: "panel", role: "tabpanel", tabindex: 0 }),
    ),
    h(
      "main",
      { id: "picture" },
      graph(),
      h(
        "footer",
        { id: "foot" },
        h("div", { id: "legend", "aria-label": "legend" }),
        h("p", { id: "count", role: "status" }),
        h(
          "div",
          { id: "zoom" },
          button("zoom-in", "+", "larger (+)"),
          button("zoom-out", "−", "smaller (−)"),
          button("fit", "Fit", "fit the picture (f)"),
          h("span", { id: "scale", class: "quiet" }),
        ),
      ),
    ),
    h("aside", { id: "details", "aria-label": "selected node", "aria-live": "polite", tabindex: 0 }),
    help(document),
  );
}

function button(id: string, text: string, title: string): HTMLElement {
  return h("button", { id, type: "button", title, "aria-label": text.length > 2 ? undefined : title }, text);
}

function graph(): SVGElement {
  const marker = s("marker", {
    id: "arrow",
    viewBox: "0 0 8 8",
    refX: 7,
    refY: 4,
    markerWidth: 6,
    markerHeight: 6,
    markerUnits: "userSpaceOnUse",
    orient: "auto",
  });
  marker.append(s("path", { d: "M0 0.8L8 4L0 7.2z" }));
  return s(
    "svg",
    {
      id: "graph",
      tabindex: 0,
      role: "tree",
      "aria-label": "graph: arrow keys move along edges, Enter opens and closes groups",
    },
    s("defs", {}, marker),
  );
}

function help(document: Document): HTMLElement {
  const list = h(
    "dl",
    { class: "facts" },
    ...KEYS.flatMap(([key, what]) => [h("dt", {}, h("kbd", {}, key)), h("dd", {}, what)]),
  );
  const close = h("button", { type: "button", id: "help-close" }, "Close");
  return h(
    "dialog",
    { id: "help", "aria-label": "keys" },
    h("h2", {}, "Keys"),
    list,
    h(
      "p",
      { class: "quiet" },
      `Double-click opens and closes a group; wheel and drag move the picture. ${visible(document.generator)}. Layout by Graphviz (EPL), zoom by d3 (ISC).`,
    ),
    close,
  );
}
