/** The view of before where no source model was given: the graph without its casts, each node as it was. */

import type { Graph, Node } from "./contract";

/** Nodes that the source does not have and that pass their one input on. */
function bypassed(node: Node): boolean {
  if (node.kind === "cast") return node.inputs.length > 0 && node.outputs.length > 0;
  return node.kind === "op" && node.before === "" && node.inputs.length === 1 && node.outputs.length === 1;
}

function passages(nodes: readonly Node[]): Map<string, string> {
  const found = new Map<string, string>();
  for (const node of nodes) if (bypassed(node)) found.set(node.outputs[0]!, node.inputs[0]!);
  return found;
}

/** Follows casts of casts back to the value that the source has. */
function origin(value: string, through: ReadonlyMap<string, string>): string {
  let found = value;
  for (let step = 0; step < 16 && through.has(found); step += 1) found = through.get(found)!;
  return found;
}

function restored(node: Node, through: ReadonlyMap<string, string>): Node {
  return {
    ...node,
    precision: node.before || node.precision,
    cause: "source",
    why: "As it is in the source, before conversion.",
    rule: -1,
    choices: [],
    inputs: node.inputs.map((id) => origin(id, through)),
  };
}

/** The graph as it was before the conversion; values keep their ids. */
export function beforeOf(graph: Graph): Graph {
  const through = passages(graph.nodes);
  const nodes = graph.nodes.filter((node) => !bypassed(node)).map((node) => restored(node, through));
  const values = graph.values.filter((value) => !through.has(value.id));
  return { ...graph, nodes, values, boundaries: [] };
}
