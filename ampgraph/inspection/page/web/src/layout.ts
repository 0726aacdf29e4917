/** Asks the worker for places. Only the latest answer counts. */

import type { LevelPlace, LevelRequest } from "./request";
import type { Answer, Beginning, Question } from "./worker";

export type Layout = (request: LevelRequest) => Promise<LevelPlace>;

/** A layout in a worker of this code with Graphviz' binary; errors of the worker are those of the promise. */
export function layoutIn(code: string, engine: ArrayBuffer): Layout {
  const url = URL.createObjectURL(new Blob([code], { type: "text/javascript" }));
  const worker = new Worker(url);
  worker.postMessage({ engine } satisfies Beginning, [engine]);
  let ticket = 0;
  let waiting = new Map<number, { resolve: (place: LevelPlace) => void; reject: (error: Error) => void }>();
  worker.onmessage = (event: MessageEvent<Answer>) => {
    const { ticket: answered, place, error } = event.data;
    const waiter = waiting.get(answered);
    waiting.delete(answered);
    if (place !== null) waiter?.resolve(place);
    else waiter?.reject(new Error(error));
  };
  worker.onerror = (event) => {
    for (const { reject } of waiting.values()) reject(new Error(event.message));
    waiting = new Map();
  };
  return (request) =>
    new Promise((resolve, reject) => {
      ticket += 1;
      waiting.set(ticket, { resolve, reject });
      worker.postMessage({ ticket, request } satisfies Question);
    });
}
