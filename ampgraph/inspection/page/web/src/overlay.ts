/** A comparison over a graph: the error of every node and group, and how it is coloured. */

import type { Comparison, Difference } from "./contract";
import { number } from "./format";
import type { Model } from "./model";
import type { Tree } from "./tree";

/** The largest error of an item. */
export interface Mistake {
  readonly relative: number;
  readonly overflowed: boolean;
  readonly within: boolean;
}

const STEPS = [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1];
export const LEVELS = STEPS.length + 2; // one below the least step, one for overflow

/** Step of the scale of colours: the last is overflow. */
export function stepOf(mistake: Mistake): number {
  if (mistake.overflowed || !Number.isFinite(mistake.relative)) return LEVELS - 1;
  return STEPS.filter((step) => mistake.relative >= step).length;
}

/** An error in few characters: "3e-4". */
export function markOf(mistake: Mistake | undefined): string {
  if (mistake === undefined) return "";
  if (mistake.overflowed || !Number.isFinite(mistake.relative)) return "∞";
  return mistake.relative === 0 ? "0" : mistake.relative.toExponential(0).replace("-", "−");
}

/** What each step means, as text for a legend. */
export function stepName(step: number): string {
  if (step === LEVELS - 1) return "overflow";
  return step === 0 ? "< 1e-6" : `≥ ${STEPS[step - 1]!.toExponential(0)}`;
}

function worse(one: Mistake | undefined, other: Mistake): Mistake {
  if (one === undefined) return other;
  return {
    relative: Math.max(one.relative, other.relative),
    overflowed: one.overflowed || other.overflowed,
    within: one.within && other.within,
  };
}

function mistake(difference: Difference): Mistake {
  const relative = number(difference.relative);
  return {
    relative: Number.isNaN(relative) ? Infinity : relative,
    overflowed: difference.overflowed > 0 || difference.mismatch !== "",
    within: difference.within,
  };
}

/** Errors by item of a tree; a group has the worst of what it holds. */
export function mistakes(comparison: Comparison, model: Model, tree: Tree): Map<number, Mistake> {
  const found = new Map<number, Mistake>();
  for (const difference of comparison.values) {
    const node = model.nodeAt.get(difference.node);
    if (node === undefined) continue;
    const one = mistake(difference);
    for (let at = tree.itemOf[node]!; at >= 0; at = tree.items[at]!.parent) found.set(at, worse(found.get(at), one));
  }
  return found;
}
