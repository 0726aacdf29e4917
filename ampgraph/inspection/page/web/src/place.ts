/** Places all boxes of nested levels: the innermost first, for an open box is as large as what it holds. */

import { dotOf, type Plain, readPlain, type Sized, type Tied } from "./dot";
import { type BoxRequest, type EdgePath, type EdgeRequest, FRAME, type LevelPlace, type LevelRequest } from "./request";

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
  const edges = request.edges.map((edge) => tied(edge, byId));
  const dot = dotOf(filled.map((box) => box.sized), edges, request.ins.length, request.outs.length);
  return assembled(request, filled, edges, readPlain(engine(dot)));
}

function fill(box: BoxRequest, engine: Engine): Filled {
  if (box.inside === null) return { request: box, inside: null, sized: { ...box, ins: [], outs: [] } };
  const inside = placed(box.inside, engine);
  const width = Math.round(Math.max(box.width, inside.width + 2 * FRAME.side));
  const shift = (width - inside.width) / 2;
  const height = Math.round(inside.height + FRAME.head + FRAME.foot);
  const moved = (places: readonly number[]) => places.map((x) => x + shift);
  return { request: box, inside, sized: { id: box.id, width, height, ins: moved(inside.ins), outs: moved(inside.outs) } };
}

function tied(edge: EdgeRequest, boxes: ReadonlyMap<string, Filled>): Tied {
  const tail = boxes.get(edge.from)?.request.inside?.outs.findIndex((ends) => ends.includes(edge.to)) ?? -1;
  const head = boxes.get(edge.to)?.request.inside?.ins.findIndex((ends) => ends.includes(edge.from)) ?? -1;
  return { ...edge, tail: tail < 0 ? "" : `o${tail}`, head: head < 0 ? "" : `i${head}` };
}

function assembled(request: LevelRequest, filled: readonly Filled[], edges: readonly Tied[], plain: Plain): LevelPlace {
  const boxes = filled.map(({ sized, inside }) => {
    const [x, y] = plain.centres.get(sized.id)!;
    const { id, width, height } = sized;
    return { id, width, height, inside, x: x - width / 2, y: y - height / 2 };
  });
  const port = (name: string) => (_: unknown, at: number) => plain.centres.get(`${name}${at}`)![0];
  const corner = new Map(boxes.map((box) => [box.id, box]));
  const ends = new Map(edges.map((edge) => [`${edge.from}>${edge.to}`, edge]));
  const snap = (path: EdgePath): EdgePath => {
    const edge = ends.get(`${path.from}>${path.to}`);
    if (edge === undefined) return path;
    const points = [...path.points];
    const [tail, head] = [corner.get(edge.from), corner.get(edge.to)];
    const sized = (id: string) => filled.find((box) => box.sized.id === id)!.sized;
    if (edge.tail !== "" && tail !== undefined) pin(points, 0, tail.x + sized(edge.from).outs[Number(edge.tail.slice(1))]!, tail.y + tail.height);
    if (edge.head !== "" && head !== undefined) pin(points, points.length - 2, head.x + sized(edge.to).ins[Number(edge.head.slice(1))]!, head.y);
    return { ...path, points };
  };
  return {
    item: request.item,
    width: plain.width,
    height: plain.height,
    boxes,
    edges: plain.paths.map(snap),
    ins: request.ins.map(port("i")),
    outs: request.outs.map(port("o")),
  };
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
