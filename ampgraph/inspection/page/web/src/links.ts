/** Reasons with links: the nodes that a sentence names, and the rule that settled something. */

import type { Rule } from "./contract";
import { type Child, h } from "./dom";
import type { Model } from "./model";
import { visible } from "./names";
import { brief, link, nameOf } from "./parts";

/** What links on the page do. `node`: to a node of the graph that a panel shows, by position. */
export interface Links {
  readonly node: (at: number) => void;
  readonly rule: (name: string) => void;
}

const NAMED =
  /(?:\b[A-Za-z_][\w.]* )?'|\b(?:bound to|has the precision of|the graph's (?:input|output)|[A-Za-z_][\w.]*) /gu;
const ANY = new Set(["bound to", "has the precision of"]);
const END = /[,;:')]|\s|$/gu; // where a name in a sentence may end
const MOST = 60; // ends that are tried

/** A sentence whose names of nodes are links to them. */
export function sentence(model: Model, text: string, links: Links): HTMLElement {
  const parts: Child[] = [];
  let from = 0;
  for (const match of text.matchAll(NAMED)) {
    const [start, lead] = [match.index + match[0].length, match[0].trim()];
    if (start < from || !leads(model, lead)) continue;
    const found = nodeAtStart(model, text, start, lead);
    if (found === null) continue;
    parts.push(
      nameOf(text.slice(from, start), 400),
      link(() => links.node(found.node), brief(text.slice(start, found.end), 120)),
    );
    from = found.end;
  }
  if (from < text.length) parts.push(nameOf(text.slice(from), 400));
  return h("span", { class: "sentence" }, ...parts);
}

/** True for words that a node's name may follow. */
function leads(model: Model, lead: string): boolean {
  return lead.endsWith("'") || ANY.has(lead) || lead.startsWith("the graph's") || namesOf(model).types.has(lead);
}

/** The node that a sentence names from `start` on; `lead` is what stands before its name: the type that it has. */
function nodeAtStart(model: Model, text: string, start: number, lead: string): { node: number; end: number } | null {
  END.lastIndex = start + 1;
  const ends: number[] = [];
  for (let match = END.exec(text); match !== null && ends.length < MOST; match = END.exec(text)) {
    ends.push(match.index);
    if (match.index >= text.length) break;
    END.lastIndex = match.index + 1;
  }
  for (const end of ends.reverse()) {
    const name = text.slice(start, end);
    const found = candidates(model, name, lead.endsWith("'"));
    const node = found.find((at) => fits(model, at, lead)) ?? (lead.endsWith("'") ? found[0] : undefined);
    if (node !== undefined) return { node, end };
  }
  return null;
}

function candidates(model: Model, name: string, quoted: boolean): readonly number[] {
  const named = namesOf(model).nodes.get(name) ?? [];
  const at = model.nodeAt.get(name);
  const value = quoted ? model.valueAt.get(name) : undefined;
  const maker = value === undefined ? -1 : model.maker[value]!;
  return [...(at === undefined ? [] : [at]), ...named, ...(maker < 0 ? [] : [maker])];
}

function fits(model: Model, at: number, lead: string): boolean {
  const { kind, type } = model.graph.nodes[at]!;
  if (lead.startsWith("the graph's")) return lead.endsWith(kind);
  return ANY.has(lead) || (kind !== "input" && kind !== "output" && type === lead.split(" ")[0]);
}

interface Names {
  readonly nodes: ReadonlyMap<string, readonly number[]>;
  readonly types: ReadonlySet<string>;
}

const known = new WeakMap<Model, Names>();

/** Nodes by name, and the types that there are. */
function namesOf(model: Model): Names {
  const found = known.get(model);
  if (found !== undefined) return found;
  const nodes = new Map<string, number[]>();
  model.graph.nodes.forEach(({ name }, at) => {
    const same = nodes.get(name);
    if (same === undefined) nodes.set(name, [at]);
    else same.push(at);
  });
  const made = { nodes, types: new Set(model.graph.nodes.map((node) => node.type)) };
  known.set(model, made);
  return made;
}

/** The name of a rule, as a link to its text and to all nodes that it settled. */
export function ruleLink(rule: Rule, links: Links): HTMLElement {
  return link(() => links.rule(rule.name), visible(rule.name));
}

/** A rule: its name, category, text unless that was `said` already, source and conditions. */
export function ruleOf(rule: Rule, links: Links, said = ""): HTMLElement {
  return h(
    "div",
    { class: `rule ${rule.category}` },
    h("p", { class: "head" }, h("b", {}, ruleLink(rule, links)), ` ${rule.category}`),
    rule.why === said ? null : h("p", {}, visible(rule.why)),
    rule.conditions.length > 0 ? h("p", { class: "quiet" }, rule.conditions.map(visible).join("; ")) : null,
    rule.source !== "" ? h("p", { class: "quiet" }, "Source: ", nameOf(rule.source, 300)) : null,
    rule.place !== "" ? h("p", { class: "quiet" }, "In ", nameOf(rule.place, 80)) : null,
  );
}
