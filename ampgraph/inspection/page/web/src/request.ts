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
  readonly marked: boolean; // has text on it, and needs room
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

export interface EdgePath {
  readonly from: string;
  readonly to: string;
  readonly points: readonly number[];
}

export interface LevelPlace {
  readonly item: number;
  readonly width: number;
  readonly height: number;
  readonly boxes: readonly BoxPlace[];
  readonly edges: readonly EdgePath[];
  readonly ins: readonly number[];
  readonly outs: readonly number[];
}

/** Room between an open box's border and what it holds. */
export const FRAME = { side: 12, head: 30, foot: 12 } as const;

/** The layout's question for a level and all open ones in it. */
export function requestOf(level: Level, faces: ReadonlyMap<number, ReadonlyMap<number, Face>>, marked: (edge: Edge) => boolean): LevelRequest {
  const own = faces.get(level.item)!;
  const loud = (port: { readonly quiet: boolean }) => !port.quiet;
  return {
    item: level.item,
    boxes: level.boxes.map((id) => {
      const inside = level.inside.get(id);
      const { width, height } = own.get(id)!;
      return { id: `n${id}`, width, height, inside: inside === undefined ? null : requestOf(inside, faces, marked) };
    }),
    edges: level.edges.filter((edge) => edge.drawn).map((edge) => ({ from: edge.from, to: edge.to, marked: marked(edge) })),
    ins: level.ins.filter(loud).map((port) => port.edges.map((edge) => edge.from)),
    outs: level.outs.filter(loud).map((port) => port.edges.map((edge) => edge.to)),
  };
}
