/** The layout's own thread: Graphviz, and levels that it has laid out before. */

import { instance } from "@viz-js/viz";
import { placed } from "./place";
import type { LevelPlace, LevelRequest } from "./request";

/** The first message: Graphviz' binary, which the build took out of its package. */
export interface Beginning {
  readonly engine: ArrayBuffer;
}

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
const ROUNDS = 12;
const known = new Map<string, string>();
let graphviz: ReturnType<typeof instance>;
let rounds = 0;

self.onmessage = async (event: MessageEvent<Beginning | Question>) => {
  if ("engine" in event.data) {
    Object.assign(self, { engine: new Uint8Array(event.data.engine) });
    graphviz = instance();
    return;
  }
  const { ticket, request } = event.data;
  try {
    const viz = await graphviz;
    const render = (dot: string): string => viz.renderString(dot, { format: "plain", engine: "dot" });
    self.postMessage({ ticket, place: placed(request, (dot) => remembered(dot, render)), error: "" } satisfies Answer);
    if (rounds === 0) warm(render);
  } catch (error) {
    self.postMessage({ ticket, place: null, error: String(error) } satisfies Answer);
  }
};

/** Does the first picture's work again while nobody waits: engines compile well what has run often. */
function warm(render: (dot: string) => string): void {
  rounds += 1;
  for (const dot of [...known.keys()].slice(0, 4)) if (dot.length < 4000) render(dot);
  if (rounds < ROUNDS) setTimeout(() => warm(render), 5);
}

/** Levels that did not change are asked again with every click. */
function remembered(dot: string, render: (dot: string) => string): string {
  const found = known.get(dot);
  if (found !== undefined) return found;
  const made = render(dot);
  if (known.size >= KEPT) known.delete(known.keys().next().value!);
  known.set(dot, made);
  return made;
}
