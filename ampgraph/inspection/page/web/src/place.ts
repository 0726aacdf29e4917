/** Places all boxes of nested levels: the innermost first, for an open box is as large as what it holds. */

import { dotOf, type Plain, readPlain, type Sized, type Tied } from "./dot";
import { type BoxRequest, type EdgeRequest, FRAME, PILL, type LevelPlace, type LevelRequest } from "./request";

/** Text of Graphviz in, its plain format out. */
export type Engine = (dot: string) => string;

interface Filled {
  readonly request: BoxRequest;
  readonly inside: LevelPlace | null;
  readonly sized: Sized;
}

/** Places of a level and of all in it. */
export function placed(request: LevelRequest, engine: Engine): LevelPlace {
  const filled = request.boxes.map((box) => fill(box, engine));
  const byId = new Map(filled.map((box) => [box.sized.id, box]));
  const edges = request.edges.flatMap((edge, at) => tied(edge, at, byId));
  const sizes = [...filled.map((box) => box.sized), ...pills(request)];
  const dot = dotOf(sizes, edges, request.ins.length, request.outs.length);
  return assembled(request, byId, edges, readPlain(engine(dot)));
}

/** Texts on edges are boxes too, so that they hide no others. */
function pills(request: LevelRequest): Sized[] {
  return request.edges.flatMap(({ pill }, at) =>
    pill > 0 ? [{ id: `m${at}`, width: pill, height: PILL, ins: [], outs: [] }] : [],
  );
}

function fill(box: BoxRequest, engine: Engine): Filled {
  if (box.inside === null) return { request: box, inside: null, sized: { ...box, ins: [], outs: [] } };
  const inside = placed(box.inside, engine);
  const width = Math.round(Math.max(box.width, inside.width + 2 * FRAME.side));
  const shift = (width - inside.width) / 2;
  const height = Math.round(inside.height + FRAME.head + FRAME.foot);
  const moved = (places: readonly number[]) => places.map((x) => x + shift);
  return {
    request: box,
    inside,
    sized: { id: box.id, width, height, ins: moved(inside.ins), outs: moved(inside.outs) },
  };
}

function tied(edge: EdgeRequest, at: number, boxes: ReadonlyMap<string, Filled>): Tied[] {
  const { from, to } = edge;
  const out = boxes.get(from)?.request.inside?.outs.findIndex((ends) => ends.includes(to)) ?? -1;
  const into = boxes.get(to)?.request.inside?.ins.findIndex((ends) => ends.includes(from)) ?? -1;
  const [tail, head] = [out < 0 ? "" : `o${out}`, into < 0 ? "" : `i${into}`];
  if (edge.pill === 0) return [{ from, to, edge: at, tail, head }];
  const pill = `m${at}`;
  return [
    { from, to: pill, edge: at, tail, head: "" },
    { from: pill, to, edge: at, tail: "", head },
  ];
}

function assembled(
  request: LevelRequest,
  filled: ReadonlyMap<string, Filled>,
  edges: readonly Tied[],
  plain: Plain,
): LevelPlace {
  const boxes = [...filled.values()].map(({ sized: { id, width, height }, inside }) => {
    const [x, y] = plain.centres.get(id)!;
    return { id, width, height, inside, x: x - width / 2, y: y - height / 2 };
  });
  const corners = new Map(boxes.map((box) => [box.id, box]));
  const port = (name: string) => (_: unknown, at: number) => plain.centres.get(`${name}${at}`)![0];
  const parts = new Map(edges.map((edge) => [`${edge.from}>${edge.to}`, edge]));
  return {
    item: request.item,
    width: plain.width,
    height: plain.height,
    boxes,
    edges: plain.paths.map((path) => {
      const part = parts.get(`${path.from}>${path.to}`)!;
      return { from: part.from, to: part.to, edge: part.edge, points: snapped(path.points, part, filled, corners) };
    }),
    pills: request.edges.flatMap(({ pill }, edge) => {
      const [x, y] = plain.centres.get(`m${edge}`) ?? [0, 0];
      return pill > 0 ? [{ edge, x, y }] : [];
    }),
    ins: request.ins.map(port("i")),
    outs: request.outs.map(port("o")),
  };
}

/** A curve whose ends are exactly at the ports of open boxes. */
function snapped(
  given: readonly number[],
  part: Tied,
  filled: ReadonlyMap<string, Filled>,
  corners: ReadonlyMap<string, { x: number; y: number; height: number }>,
): number[] {
  const points = [...given];
  const place = (name: string) => Number(name.slice(1));
  if (part.tail !== "") {
    const { x, y, height } = corners.get(part.from)!;
    pin(points, 0, x + filled.get(part.from)!.sized.outs[place(part.tail)]!, y + height);
  }
  if (part.head !== "") {
    const { x, y } = corners.get(part.to)!;
    pin(points, points.length - 2, x + filled.get(part.to)!.sized.ins[place(part.head)]!, y);
  }
  return points;
}

/** Moves an end of a curve, and its handle along. */
function pin(points: number[], at: number, x: number, y: number): void {
  const handle = at === 0 ? 2 : at - 2;
  const [right, down] = [x - points[at]!, y - points[at + 1]!];
  points[handle]! += right;
  points[handle + 1]! += down;
  points[at] = x;
  points[at + 1] = y;
}
