/** Asks the worker for places. Only the latest answer counts. */

import type { LevelPlace, LevelRequest } from "./request";
import type { Answer, Beginning, Question } from "./worker";

export type Layout = (request: LevelRequest) => Promise<LevelPlace>;

/**
 * A layout in a worker of this code with Graphviz' binary; errors of the worker are those of the promise. One
 * that comes before any answer is of a worker that never will answer: all that is asked later fails of it too.
 */
export function layoutIn(code: string, engine: ArrayBuffer): Layout {
  const url = URL.createObjectURL(new Blob([code], { type: "text/javascript" }));
  const worker = new Worker(url);
  worker.postMessage({ engine } satisfies Beginning, [engine]);
  let ticket = 0;
  let alive = false;
  let dead: Error | null = null;
  let waiting = new Map<number, { resolve: (place: LevelPlace) => void; reject: (error: Error) => void }>();
  worker.onmessage = (event: MessageEvent<Answer>) => {
    alive = true;
    const { ticket: answered, place, error } = event.data;
    const waiter = waiting.get(answered);
    waiting.delete(answered);
    if (place !== null) waiter?.resolve(place);
    else waiter?.reject(new Error(error));
  };
  worker.onerror = (event) => {
    const error = new Error(event.message);
    if (!alive) dead = error;
    for (const { reject } of waiting.values()) reject(error);
    waiting = new Map();
  };
  return (request) =>
    new Promise((resolve, reject) => {
      if (dead !== null) {
        reject(dead);
        return;
      }
      ticket += 1;
      waiting.set(ticket, { resolve, reject });
      worker.postMessage({ ticket, request } satisfies Question);
    });
}
