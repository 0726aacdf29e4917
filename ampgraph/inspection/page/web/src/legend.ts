/** What colours, marks and lines mean. */

import type { Graph } from "./contract";
import { h } from "./dom";
import { LEVELS, stepName } from "./overlay";
import { chip } from "./parts";
import { byPrecision } from "./precision";

/** Precisions of a graph, casts and boundaries. */
export function precisionLegend(graph: Graph): HTMLElement {
  const precisions = [...new Set(graph.nodes.filter((node) => node.kind === "op").map((node) => node.precision))].sort(
    byPrecision,
  );
  const casts = graph.nodes.some((node) => node.kind === "cast");
  return h(
    "ul",
    {},
    ...precisions.map((precision) =>
      h("li", {}, chip(precision), ` ${precision === "other" || precision === "" ? "no float" : precision}`),
    ),
    casts ? h("li", {}, h("span", { class: "chip cast" }, "→"), " cast") : null,
    graph.boundaries.length > 0 ? h("li", {}, h("span", { class: "dash" }), " boundary") : null,
  );
}

/** The scale of relative errors. */
export function errorLegend(): HTMLElement {
  const steps = Array.from({ length: LEVELS }, (_, step) =>
    h("li", {}, h("span", { class: `chip err e-${step}` }, step === LEVELS - 1 ? "∞" : "\u00a0"), ` ${stepName(step)}`),
  );
  return h(
    "ul",
    {},
    h("li", {}, "relative error"),
    ...steps,
    h("li", {}, h("span", { class: "chip err e-none beyond" }, "\u00a0"), " beyond tolerance"),
  );
}
