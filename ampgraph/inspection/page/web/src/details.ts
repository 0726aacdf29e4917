/** The panel of one node: why it is as it is, what it costs, what it reads and makes. */

import type { Choice, Document, Initializer, Node, Value } from "./contract";
import { type Child, h } from "./dom";
import * as format from "./format";
import { type Model, valueOf } from "./model";
import { type Links, ruleOf, sentence } from "./links";
import { brief, nameOf, chip, facts, link, section } from "./parts";
import { visible } from "./names";

/** What the panel asks of the page. */
export interface Doing extends Links {
  readonly constants: (node: string) => void;
  readonly constantsShown: (node: string) => boolean;
}

/** The panel of a node. */
export function nodePanel(
  document: Document,
  model: Model,
  at: number,
  doing: Doing,
  extra: Child = null,
): HTMLElement {
  const node = model.graph.nodes[at]!;
  return h(
    "article",
    { class: "details" },
    h(
      "header",
      {},
      h("h2", {}, chip(node.precision), " ", nameOf(node.type, 60)),
      h("p", { class: "path" }, nameOf(node.name || node.id)),
    ),
    reason(document, model, node, doing),
    choices(document, model, node, doing),
    extra,
    boundaries(document, model, at, doing),
    cost(document, node),
    values(model, node, node.inputs, "Inputs", doing),
    values(model, node, node.outputs, "Outputs", doing),
    attributes(node),
    origin(model, node),
  );
}

function reason(document: Document, model: Model, node: Node, doing: Doing): HTMLElement {
  const rule = document.rules[node.rule];
  const change = node.before !== "" && node.before !== node.precision;
  const was = change ? h("p", { class: "quiet" }, "was ", chip(node.before), " in the source") : null;
  const why = h(
    "p",
    { class: "why" },
    h("span", { class: "cause" }, node.cause),
    " ",
    sentence(model, node.why, doing),
  );
  return section("Reason", why, rule === undefined ? null : ruleOf(rule, doing, node.why), was);
}

function choices(document: Document, model: Model, node: Node, doing: Doing): Child {
  if (node.choices.length === 0) return null;
  const list = node.choices.map((choice) => choiceOf(document, model, node, choice, doing));
  return section(node.choices.length === 1 ? "Type variable" : "Type variables", ...list);
}

function choiceOf(document: Document, model: Model, node: Node, choice: Choice, doing: Doing): HTMLElement {
  const rule = choice.rule === node.rule ? undefined : document.rules[choice.rule];
  const said = choice.why === node.why ? null : h("p", {}, sentence(model, choice.why, doing));
  const prices =
    format.price(choice.low, document.unit) + " low, " + format.price(choice.high, document.unit) + " high";
  return h(
    "div",
    { class: "choice" },
    h("p", { class: "head" }, h("b", {}, visible(choice.variable)), " ", chip(choice.precision), ` ${choice.cause}`),
    said,
    (choice.low === null && choice.high === null) || !format.isPriced(document.unit)
      ? null
      : h("p", { class: "quiet" }, prices),
    rule === undefined ? null : ruleOf(rule, doing, choice.why),
    choice.bonds.length > 0
      ? h("ul", { class: "bonds" }, ...choice.bonds.map((bond) => h("li", {}, sentence(model, bond, doing))))
      : null,
  );
}

function boundaries(document: Document, model: Model, at: number, doing: Doing): Child {
  const found = model.boundariesOf.get(at) ?? [];
  if (found.length === 0) return null;
  return section("Boundaries", ...found.slice(0, 40).map((one) => boundaryOf(document, model, at, one, doing)));
}

function boundaryOf(document: Document, model: Model, at: number, one: number, doing: Doing): HTMLElement {
  const boundary = model.graph.boundaries[one]!;
  const ends = [boundary.maker, boundary.cast, ...boundary.readers].flatMap((id) => model.nodeAt.get(id) ?? []);
  const others = ends.filter((end) => end !== at).slice(0, 12);
  const price = boundary.cost === null ? "" : format.cost(boundary.cost, document.unit);
  const cost = price === "" ? "" : ` · ${price}`;
  return h(
    "div",
    { class: "choice" },
    h(
      "p",
      { class: "head" },
      chip(boundary.source),
      " → ",
      chip(boundary.target),
      ` ${format.bytes(boundary.bytes)}${cost}`,
    ),
    h("p", {}, sentence(model, boundary.why, doing)),
    h("p", {}, ...others.flatMap((end) => [goTo(model, end, doing), " "])),
  );
}

function goTo(model: Model, node: number, doing: Doing): HTMLElement {
  const one = model.graph.nodes[node]!;
  const title = one.kind === "op" ? one.type.slice(one.type.lastIndexOf(".") + 1) : one.kind;
  return link(() => doing.node(node), chip(one.precision), " ", nameOfLink(title, one.name));
}

function nameOfLink(type: string, name: string): HTMLElement {
  return h("span", {}, visible(type), " ", h("span", { class: "quiet" }, brief(name, 64)));
}

function cost(document: Document, node: Node): HTMLElement {
  return section(
    "Cost of one run",
    facts([
      ["in low precision", format.cost(node.low, document.unit)],
      ["in float32", format.cost(node.high, document.unit)],
      ["operations", format.operations(node.operations)],
      ["bytes moved", node.bytes === null ? "–" : format.bytes(node.bytes)],
      ["kernel", node.kernel === "" ? "not known" : node.kernel],
    ]),
  );
}

function values(model: Model, node: Node, ids: readonly string[], title: string, doing: Doing): Child {
  const given = ids.filter((id) => id !== "");
  if (given.length === 0) return null;
  const constants = title === "Inputs" && given.some((id) => valueOf(model, id)?.initializer);
  const shown = doing.constantsShown(node.id);
  const button = constants
    ? h(
        "button",
        { class: "more", type: "button", "aria-pressed": String(shown), click: () => doing.constants(node.id) },
        shown ? "constants shown in the picture" : "show constants in the picture",
      )
    : null;
  const list = ids
    .slice(0, 64)
    .map((id, place) => (id === "" ? null : valueOfPlace(model, node, id, place, title, doing)));
  const left =
    ids.length > 64 ? h("p", { class: "quiet" }, `${ids.length - 64} more are not listed: search value:NAME`) : null;
  return section(title, ...list, left, button);
}

function valueOfPlace(model: Model, node: Node, id: string, place: number, title: string, doing: Doing): HTMLElement {
  const value = valueOf(model, id);
  const at = model.valueAt.get(id);
  if (value === undefined || at === undefined) return h("div", { class: "value" }, nameOf(id, 80));
  const maker = model.maker[at]!;
  const ends =
    title === "Inputs"
      ? maker >= 0
        ? [maker]
        : []
      : model.readers[at]!.filter((reader) => model.graph.nodes[reader] !== node);
  return h(
    "div",
    { class: "value" },
    h("p", { class: "head" }, h("span", { class: "quiet" }, `${place} `), nameOf(value.name || value.id, 80)),
    h(
      "p",
      { class: "quiet" },
      `${value.dtype || value.kind}  ${format.shape(value)}${value.bytes === null ? "" : `  ${format.bytes(value.bytes)}`}`,
      range(value),
    ),
    value.initializer === null ? null : initializer(value.initializer),
    ...ends.slice(0, 12).map((end) => h("p", {}, title === "Inputs" ? "from " : "to ", goTo(model, end, doing))),
    ends.length > 12 ? h("p", { class: "quiet" }, `and ${ends.length - 12} more readers`) : null,
  );
}

function range(value: Value): string {
  const text = format.interval(value.lowest, value.highest);
  return text === "" ? "" : `  in ${text}`;
}

function initializer(data: Initializer): HTMLElement {
  const troubles = [
    data.overflowed > 0 ? `${format.count(data.overflowed)} overflow` : "",
    data.flushed > 0 ? `${format.count(data.flushed)} flushed to zero` : "",
  ];
  return facts([
    [
      "constant",
      `${format.count(data.elements)} elements, ${format.digits(data.lowest)} … ${format.digits(data.highest)}`,
    ],
    ["held in", data.kept.join(", ")],
    ["rounding error", data.error === null ? "" : format.digits(data.error)],
    ["rounded", troubles.filter((text) => text !== "").join(", ")],
    ["first elements", data.sample.map(format.digits).join(", ")],
  ]);
}

function attributes(node: Node): Child {
  const named = Object.entries(node.attributes);
  if (named.length === 0) return null;
  return section(
    "Attributes",
    facts(named.map(([name, value]) => [visible(name), nameOf(format.attribute(value), 200)] as const)),
  );
}

function origin(model: Model, node: Node): HTMLElement {
  const module = model.graph.modules[node.module];
  const path =
    module === undefined || module.path === "" ? "" : `${module.path}${module.type ? ` (${module.type})` : ""}`;
  return section(
    "Origin",
    facts([
      ["module", path === "" ? "" : nameOf(path, 120)],
      ["body", node.body === "" ? "" : nameOf(node.body, 120)],
      ["version", node.version > 0 ? String(node.version) : ""],
      [
        "stands for",
        node.origins.length === 0
          ? ""
          : h("span", {}, ...node.origins.slice(0, 40).flatMap((name) => [nameOf(name, 80), h("br")])),
      ],
      ["id", nameOf(node.id, 80)],
    ]),
  );
}
