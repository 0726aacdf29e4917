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
}

const LEAST = 0.03;
const LARGEST = 4;
const MARGIN = 28;
const FOOT = 50; // room that the legend takes

/** A camera over `scene` inside `frame`; wheel and drag move it. */
export function cameraOf(frame: SVGSVGElement, scene: SVGGElement, moved: (scale: number) => void): Camera {
  const selection = select(frame);
  const behaviour: ZoomBehavior<SVGSVGElement, unknown> = zoom<SVGSVGElement, unknown>()
    .scaleExtent([LEAST, LARGEST])
    .clickDistance(4)
    .on("zoom", (event: { transform: { toString: () => string; k: number } }) => {
      scene.setAttribute("transform", event.transform.toString());
      moved(event.transform.k);
    });
  selection.call(behaviour).on("dblclick.zoom", null);
  const size = () => frame.getBoundingClientRect();
  const look = (rect: Rect, scale: number, top: boolean): void => {
    const { width, height } = size();
    const y = top ? MARGIN - rect.y * scale : (height - FOOT) / 2 - (rect.y + rect.height / 2) * scale;
    const target = zoomIdentity.translate(width / 2 - (rect.x + rect.width / 2) * scale, y).scale(scale);
    selection.call(behaviour.transform, target);
  };
  const fitting = (rect: Rect) =>
    Math.min((size().width - 2 * MARGIN) / rect.width, (size().height - 2 * MARGIN - FOOT) / rect.height);
  return {
    whole: (rect) => look(rect, Math.max(LEAST, Math.min(1.1, fitting(rect))), false),
    start: (rect) => {
      const scale = Math.min(
        1.1,
        Math.max(fitting(rect), Math.min(0.8, (size().width - 2 * MARGIN) / rect.width), 0.45),
      );
      look(rect, scale, scale > fitting(rect));
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
  };
}
