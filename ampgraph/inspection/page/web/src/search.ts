/** Finding nodes by words: plain ones anywhere, "op:Softmax" and its like in one place. */

import type { Document, Node } from "./contract";
import type { Model } from "./model";

export const PREFIXES = ["op", "name", "precision", "rule", "cause", "why", "module", "kernel", "value", "is"] as const;
type Prefix = (typeof PREFIXES)[number];
const SHORT: Readonly<Record<string, Prefix>> = { type: "op", p: "precision", in: "module", r: "rule" };
const MARKS: Readonly<Record<string, string>> = {
  f16: "float16",
  fp16: "float16",
  bf16: "bfloat16",
  f32: "float32",
  fp32: "float32",
};

export interface Term {
  readonly prefix: Prefix | "";
  readonly word: string;
  readonly not: boolean;
}

/** What can be found of each node, in lower case. */
export interface Index {
  readonly anywhere: readonly string[];
  readonly fields: (node: number, prefix: Prefix) => string;
  readonly rules: ReadonlySet<string>; // their whole names
}

/** Terms of a query; quotes keep words together, "-" asks for the opposite. */
export function terms(query: string): Term[] {
  const found: Term[] = [];
  for (const match of query.matchAll(/(-?)(?:([a-z]+):)?(?:"([^"]*)"?|(\S+))/giu)) {
    const named = (match[2] ?? "").toLowerCase();
    const prefix = PREFIXES.find((one) => one === named) ?? SHORT[named] ?? "";
    const word = (match[3] ?? match[4] ?? "").toLowerCase();
    const whole = prefix === "" && named !== "" ? `${named}:${word}` : word;
    if (whole !== "")
      found.push({ prefix, word: prefix === "precision" ? (MARKS[whole] ?? whole) : whole, not: match[1] === "-" });
  }
  return found;
}

/** The index of one graph. */
export function indexOf(document: Document, model: Model, islands: ReadonlySet<string>): Index {
  const { nodes } = model.graph;
  const modules = model.graph.modules.map((module) => `${module.path} ${module.type}`.toLowerCase());
  const rule = (node: Node) => document.rules[node.rule]?.name ?? "";
  const anywhere = nodes.map((node) => `${node.name}\n${node.type}\n${rule(node)}`.slice(0, 4000).toLowerCase());
  const fields = (at: number, prefix: Prefix): string => {
    const node = nodes[at]!;
    if (prefix === "op") return node.type.toLowerCase();
    if (prefix === "name") return [node.name, ...node.origins].join("\n").toLowerCase();
    if (prefix === "precision") return node.kind === "cast" ? "" : node.precision;
    if (prefix === "rule")
      return [rule(node), ...node.choices.map((choice) => document.rules[choice.rule]?.name ?? "")]
        .join("\n")
        .toLowerCase();
    if (prefix === "module") return modules[node.module] ?? "";
    if (prefix === "value") return [...node.inputs, ...node.outputs].join("\n").toLowerCase();
    if (prefix === "is") return traits(node, model, at, islands);
    return String(node[prefix]).toLowerCase();
  };
  return { anywhere, fields, rules: new Set(document.rules.map((rule) => rule.name.toLowerCase())) };
}

function traits(node: Node, model: Model, at: number, islands: ReadonlySet<string>): string {
  const found: string[] = [node.kind];
  if (islands.has(node.id)) found.push("island");
  if (model.boundariesOf.has(at)) found.push("boundary");
  if (node.before !== "" && node.before !== node.precision) found.push("changed");
  if (node.bodies.length > 0) found.push("owner");
  return found.join("\n");
}

/** Positions of the nodes that fulfil all terms, in the graph's order; none for no term. */
export function find(index: Index, wanted: readonly Term[]): number[] {
  if (wanted.length === 0) return [];
  const found: number[] = [];
  for (let at = 0; at < index.anywhere.length; at += 1)
    if (wanted.every((term) => fulfils(index, at, term))) found.push(at);
  return found;
}

function fulfils(index: Index, at: number, term: Term): boolean {
  if (term.prefix === "") return index.anywhere[at]!.includes(term.word) !== term.not;
  const field = index.fields(at, term.prefix);
  const rule = term.prefix === "rule" && index.rules.has(term.word);
  const exact = term.prefix === "is" || term.prefix === "precision" || rule;
  return (exact ? field.split("\n").includes(term.word) : field.includes(term.word)) !== term.not;
}
