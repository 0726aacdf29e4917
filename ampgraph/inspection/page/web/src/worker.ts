/** The layout's own thread: Graphviz, and levels that it has laid out before. */

import { instance } from "@viz-js/viz";
import { placed } from "./place";
import type { LevelPlace, LevelRequest } from "./request";

export interface Question {
  readonly ticket: number;
  readonly request: LevelRequest;
}

export interface Answer {
  readonly ticket: number;
  readonly place: LevelPlace | null;
  readonly error: string;
}

const KEPT = 400;
const known = new Map<string, string>();
const graphviz = instance();

self.onmessage = async (event: MessageEvent<Question>) => {
  const { ticket, request } = event.data;
  const viz = await graphviz;
  const engine = (dot: string): string => remembered(dot, () => viz.renderString(dot, { format: "plain", engine: "dot" }));
  try {
    self.postMessage({ ticket, place: placed(request, engine), error: "" } satisfies Answer);
  } catch (error) {
    self.postMessage({ ticket, place: null, error: String(error) } satisfies Answer);
  }
};

/** Levels that did not change are asked again with every click. */
function remembered(dot: string, render: () => string): string {
  const found = known.get(dot);
  if (found !== undefined) return found;
  const made = render();
  if (known.size >= KEPT) known.delete(known.keys().next().value!);
  known.set(dot, made);
  return made;
}
