/** What the layout is asked and what it answers: plain data, for it goes to a worker and back. */

import type { Face } from "./boxes";
import type { Edge, Level } from "./levels";

export interface BoxRequest {
  readonly id: string;
  readonly width: number;
  readonly height: number;
  readonly inside: LevelRequest | null;
}

export interface EdgeRequest {
  readonly from: string;
  readonly to: string;
  readonly pill: number; // width of the text on it, 0 for none
}

export interface LevelRequest {
  readonly item: number;
  readonly boxes: readonly BoxRequest[];
  readonly edges: readonly EdgeRequest[];
  readonly ins: readonly (readonly string[])[]; // for each port, the ends outside that it joins
  readonly outs: readonly (readonly string[])[];
}

/** Places are of a box's left upper corner, in the coordinates of its level; a path is points of cubic curves. */
export interface BoxPlace {
  readonly id: string;
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
  readonly inside: LevelPlace | null;
}

/** A part of an edge: all of it, or up to the text on it, or from there. */
export interface EdgePath {
  readonly from: string;
  readonly to: string;
  readonly edge: number; // position among those asked for
  readonly points: readonly number[];
}

/** Where the middle of an edge's text is. */
export interface PillPlace {
  readonly edge: number;
  readonly x: number;
  readonly y: number;
}

export interface LevelPlace {
  readonly item: number;
  readonly width: number;
  readonly height: number;
  readonly boxes: readonly BoxPlace[];
  readonly edges: readonly EdgePath[];
  readonly pills: readonly PillPlace[];
  readonly ins: readonly number[];
  readonly outs: readonly number[];
}

/** Height of the text on an edge. */
export const PILL = 16;

/** Room between an open box's border and what it holds. */
export const FRAME = { side: 12, head: 30, foot: 12 } as const;

/** The layout's question for a level and all open ones in it. */
export function requestOf(
  level: Level,
  faces: ReadonlyMap<number, ReadonlyMap<number, Face>>,
  pill: (edge: Edge) => number,
): LevelRequest {
  const own = faces.get(level.item)!;
  const loud = (port: { readonly quiet: boolean }) => !port.quiet;
  return {
    item: level.item,
    boxes: level.boxes.map((id) => {
      const inside = level.inside.get(id);
      const { width, height } = own.get(id)!;
      return { id: `n${id}`, width, height, inside: inside === undefined ? null : requestOf(inside, faces, pill) };
    }),
    edges: level.edges.filter((edge) => edge.drawn).map((edge) => ({ from: edge.from, to: edge.to, pill: pill(edge) })),
    ins: level.ins.filter(loud).map((port) => port.edges.map((edge) => edge.from)),
    outs: level.outs.filter(loud).map((port) => port.edges.map((edge) => edge.to)),
  };
}
