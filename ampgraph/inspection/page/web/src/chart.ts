/** The panel of a comparison: where errors begin, the worst of them, and how they grow along the graph. */

import type { Comparison, Difference } from "./contract";
import { type Child, h, s } from "./dom";
import * as format from "./format";
import { visible } from "./names";
import { brief, nameOf, facts, link, section } from "./parts";

const WIDTH = 264;
const HEIGHT = 130;
const [LEFT, RIGHT, TOP, BOTTOM] = [30, 6, 8, 18];
const LEAST = 1e-8;

/** The panel. `go`: to the node of a difference. */
export function errorPanel(comparison: Comparison, go: (difference: Difference) => void): HTMLElement {
  const byValue = new Map([...comparison.outputs, ...comparison.values].map((one) => [one.value, one]));
  const found = (id: string) => byValue.get(id);
  const verdict = comparison.within ? "within tolerance" : "beyond tolerance";
  const shapes = format.shapes(comparison.shapes);
  return h(
    "article",
    { class: "summary" },
    section(
      "Comparison",
      facts([
        ["reference", nameOf(comparison.reference, 60)],
        ["ran on", nameOf(comparison.runtime || comparison.ran, 80)],
        ["inputs", inputsOf(comparison)],
        ["shapes", shapes === "" ? "" : nameOf(shapes, 200)],
        ["outputs", h("b", { class: comparison.within ? "good" : "bad" }, verdict)],
        ["tolerance", format.digits(comparison.tolerance)],
        [
          "compared",
          `${format.count(comparison.values.length)} values, ${format.count(comparison.unmatched)} without counterpart`,
        ],
      ]),
      ...comparison.notes.map((note) => h("p", { class: "note" }, visible(note))),
    ),
    section("Error along the graph", chart(comparison, go)),
    section(
      "First",
      firstOf("overflow", "No overflow.", found(comparison.first_overflow), go),
      firstOf("beyond tolerance", "Nothing beyond tolerance.", found(comparison.first_beyond), go),
      firstOf("flushed to zero", "Nothing flushed to zero.", found(comparison.first_flush), go),
    ),
    section(
      "Worst",
      h(
        "ol",
        { class: "rows" },
        ...comparison.worst.flatMap((id) => found(id) ?? []).map((one) => h("li", {}, differenceOf(one, go))),
      ),
    ),
    section(
      "Outputs",
      h("ol", { class: "rows" }, ...comparison.outputs.slice(0, 20).map((one) => h("li", {}, differenceOf(one, go)))),
    ),
  );
}

/** Where the inputs of a comparison are from: words, or the name of a file. */
function inputsOf({ inputs }: Comparison): Child {
  return inputs === "generated" || inputs === "given" ? inputs : h("span", {}, "of ", nameOf(inputs, 60));
}

function firstOf(what: string, none: string, one: Difference | undefined, go: (difference: Difference) => void): Child {
  return h(
    "div",
    { class: "choice" },
    h("p", { class: "quiet" }, one === undefined ? none : what),
    one === undefined ? null : differenceOf(one, go),
  );
}

function differenceOf(one: Difference, go: (difference: Difference) => void): HTMLElement {
  const lost = [
    one.overflowed > 0 ? `${format.count(one.overflowed)} overflowed` : "",
    one.flushed > 0 ? `${format.count(one.flushed)} flushed` : "",
    one.clamped > 0 ? `${format.count(one.clamped)} clamped` : "",
    visible(one.mismatch),
  ];
  const about = lost.filter((text) => text !== "").join(", ");
  return h(
    "div",
    {},
    h(
      "p",
      { class: "head" },
      link(() => go(one), h("b", {}, one.type.slice(one.type.lastIndexOf(".") + 1)), " ", brief(one.name, 40)),
      h("span", { class: one.within ? "figure" : "figure bad" }, format.digits(one.relative)),
    ),
    about === "" ? null : h("p", { class: "quiet" }, about),
  );
}

/** The difference of one node's value, for the node's own panel. */
export function mistakeOf(one: Difference): HTMLElement {
  return facts([
    ["value", nameOf(one.name, 60)],
    ["relative error", format.digits(one.relative)],
    ["largest", `${format.digits(one.largest)} at [${one.at.join(", ")}]`],
    ["there", `${format.digits(one.reference)} became ${format.digits(one.found)}`],
    ["magnitude", format.digits(one.magnitude)],
    ["overflowed", one.overflowed > 0 ? `${format.count(one.overflowed)} of ${format.count(one.elements)}` : ""],
    [
      "flushed",
      one.flushed > 0
        ? `${format.count(one.flushed)} of ${format.count(one.elements)}, first at [${one.flushed_at.join(", ")}]`
        : "",
    ],
    ["clamped", one.clamped > 0 ? `${format.count(one.clamped)} of ${format.count(one.elements)}` : ""],
    ["mismatch", visible(one.mismatch)],
  ]);
}

/** At most one point per pixel: the worst of those that fall on it. */
function points(comparison: Comparison): { one: Difference; x: number; error: number }[] {
  const last = Math.max(1, ...comparison.values.map((one) => one.order));
  const found = new Map<number, { one: Difference; x: number; error: number }>();
  for (const one of comparison.values) {
    const relative = format.number(one.relative);
    const error = one.overflowed > 0 || Number.isNaN(relative) ? Infinity : relative;
    const x = Math.round(LEFT + (one.order / last) * (WIDTH - LEFT - RIGHT));
    const kept = found.get(x);
    if (kept === undefined || error > kept.error) found.set(x, { one, x, error });
  }
  return [...found.values()].sort((a, b) => a.x - b.x);
}

function chart(comparison: Comparison, go: (difference: Difference) => void): SVGElement {
  const all = points(comparison);
  const finite = all.map((point) => point.error).filter((error) => Number.isFinite(error) && error > 0);
  const tolerance = format.number(comparison.tolerance);
  const top = Math.ceil(Math.log10(Math.max(1e-3, tolerance || 0, ...finite)));
  const low = Math.floor(Math.log10(Math.max(LEAST, Math.min(1e-4, ...finite))));
  const y = (error: number) =>
    TOP + (1 - (Math.log10(Math.max(error, 10 ** low)) - low) / (top - low)) * (HEIGHT - TOP - BOTTOM);
  const svg = s("svg", {
    class: "chart",
    viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
    role: "img",
    "aria-label": "Relative error of each value along the graph",
  });
  for (let power = low; power <= top; power += Math.max(1, Math.ceil((top - low) / 5))) {
    svg.append(
      s("path", { class: "grid", d: `M${LEFT} ${y(10 ** power)}H${WIDTH - RIGHT}` }),
      s("text", { x: LEFT - 4, y: y(10 ** power) + 3, class: "axis" }, `1e${power}`),
    );
  }
  if (tolerance > 0) svg.append(s("path", { class: "tolerance", d: `M${LEFT} ${y(tolerance)}H${WIDTH - RIGHT}` }));
  for (const { one, x, error } of all) {
    const overflow = !Number.isFinite(error);
    const at = overflow ? TOP - 2 : y(error);
    const dot = s("g", { class: `point ${overflow ? "overflow" : one.within ? "" : "beyond"}`, click: () => go(one) });
    dot.append(
      s("path", { d: `M${x} ${HEIGHT - BOTTOM}V${at}` }),
      overflow
        ? s("path", { class: "cross", d: `M${x - 3} ${at - 3}l6 6m0-6l-6 6` })
        : s("circle", { cx: x, cy: at, r: 1.8 }),
    );
    dot.append(s("title", {}, `${one.name.slice(0, 120)}: ${format.digits(one.relative)}`));
    svg.append(dot);
  }
  svg.append(
    s("text", { x: LEFT, y: HEIGHT - 5, class: "axis start" }, "inputs"),
    s("text", { x: WIDTH - RIGHT, y: HEIGHT - 5, class: "axis" }, "outputs"),
  );
  return svg;
}
