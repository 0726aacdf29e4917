/** What part of the picture is seen. */

import { select } from "d3-selection";
import { zoom, type ZoomBehavior, zoomIdentity, zoomTransform } from "d3-zoom";

export interface Rect {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

export interface Camera {
  readonly whole: (rect: Rect) => void;
  readonly start: (rect: Rect) => void;
  readonly show: (rect: Rect) => void;
  readonly move: (right: number, down: number) => void;
  readonly zoom: (factor: number) => void;
  readonly scale: () => number;
  readonly onScreen: (x: number, y: number) => [number, number];
  readonly fitting: (rect: Rect) => number; // scale at which all of it is in sight
  readonly size: () => Size;
  readonly resized: () => void; // the frame may have another size now
}

interface Size {
  readonly width: number;
  readonly height: number;
}

const LEAST = 0.03;
const LARGEST = 4;
const MARGIN = 28;
export const READABLE = 0.6; // scale at which texts are read with ease
const LEGIBLE = 0.45; // scale below which they are not read at all

/** A camera over `scene` inside `frame`; wheel and drag move it. */
export function cameraOf(frame: SVGSVGElement, scene: SVGGElement, moved: (scale: number) => void): Camera {
  const selection = select(frame);
  let known: Size | null = null; // asking for it makes the browser lay out all that has changed
  const size = (): Size => (known ??= frame.getBoundingClientRect());
  const resized = (): void => {
    known = null;
  };
  new ResizeObserver(resized).observe(frame);
  const extent = (): [[number, number], [number, number]] => [
    [0, 0],
    [size().width, size().height],
  ];
  const behaviour: ZoomBehavior<SVGSVGElement, unknown> = zoom<SVGSVGElement, unknown>()
    .scaleExtent([LEAST, LARGEST])
    .clickDistance(4)
    .extent(extent)
    .on("zoom", (event: { transform: { toString: () => string; k: number } }) => {
      scene.setAttribute("transform", event.transform.toString());
      moved(event.transform.k);
    });
  selection.call(behaviour).on("dblclick.zoom", null);
  const look = (rect: Rect, scale: number, top: boolean): void => {
    const { width, height } = size();
    const y = top ? MARGIN - rect.y * scale : height / 2 - (rect.y + rect.height / 2) * scale;
    const target = zoomIdentity.translate(width / 2 - (rect.x + rect.width / 2) * scale, y).scale(scale);
    selection.call(behaviour.transform, target);
  };
  const fitting = (rect: Rect) =>
    Math.min((size().width - 2 * MARGIN) / rect.width, (size().height - 2 * MARGIN) / rect.height);
  return {
    whole: (rect) => look(rect, Math.max(LEAST, Math.min(1.1, fitting(rect))), false),
    start: (rect) => {
      const fits = fitting(rect);
      const wide = (size().width - 2 * MARGIN) / rect.width;
      if (fits >= LEGIBLE) look(rect, Math.min(1.1, fits), false);
      else look(rect, Math.max(fits, Math.min(0.8, wide), 0.45), true);
    },
    show: (rect) => {
      const scale = zoomTransform(frame).k;
      look(rect, Math.min(1.6, Math.max(scale, 0.75)), false);
    },
    move: (right, down) =>
      selection.call(behaviour.translateBy, right / zoomTransform(frame).k, down / zoomTransform(frame).k),
    zoom: (factor) => selection.call(behaviour.scaleBy, factor),
    scale: () => zoomTransform(frame).k,
    onScreen: (x, y) => zoomTransform(frame).apply([x, y]),
    fitting,
    size,
    resized,
  };
}
