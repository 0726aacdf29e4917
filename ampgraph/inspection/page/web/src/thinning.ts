/** Which edges of a level are drawn: long ones that fan out are told in words at their ends, lest lines hide the boxes. */

import type { Edge } from "./levels";

const LONG = 2; // ranks that an edge passes before it may be left out
const FAN = { from: 3, to: 6 } as const; // long edges that are too many at one box
const BUDGET = 300; // ranks that all edges of a level may pass together

/** Marks the edges that are not drawn. */
export function thinned(edges: readonly Edge[], boxes: readonly number[]): void {
  const rank = ranks(edges, boxes);
  const deepest = Math.max(0, ...rank.values()) + 1;
  const place = (end: string) => (end.startsWith("i") ? -1 : end.startsWith("o") ? deepest : rank.get(end)!);
  const span = (edge: Edge) => Math.abs(place(edge.to) - place(edge.from));
  const drawn = edges.filter((edge) => edge.drawn);
  for (const side of ["from", "to"] as const) fans(drawn, side, span);
  const left = drawn.filter((edge) => edge.drawn).sort((one, other) => span(other) - span(one));
  let total = left.reduce((sum, edge) => sum + span(edge), 0);
  for (const edge of left) {
    if (total <= BUDGET || span(edge) <= LONG) return;
    edge.drawn = false;
    total -= span(edge);
  }
}

function fans(edges: readonly Edge[], side: "from" | "to", span: (edge: Edge) => number): void {
  const long = new Map<string, Edge[]>();
  for (const edge of edges) if (span(edge) > LONG) long.set(edge[side], [...(long.get(edge[side]) ?? []), edge]);
  for (const group of long.values()) if (group.length >= FAN[side]) for (const edge of group) edge.drawn = false;
}

/** Longest way to each box, along edges that go forward in the order of boxes. */
function ranks(edges: readonly Edge[], boxes: readonly number[]): Map<string, number> {
  const order = new Map(boxes.map((box, at) => [`n${box}`, at]));
  const rank = new Map(boxes.map((box) => [`n${box}`, 0]));
  const coming = new Map<string, string[]>();
  for (const { from, to } of edges) {
    const [a, b] = [order.get(from), order.get(to)];
    if (a !== undefined && b !== undefined && a < b) coming.set(to, [...(coming.get(to) ?? []), from]);
  }
  for (const box of boxes) {
    const from = coming.get(`n${box}`) ?? [];
    rank.set(
      `n${box}`,
      from.reduce((most, one) => Math.max(most, rank.get(one)! + 1), 0),
    );
  }
  return rank;
}
