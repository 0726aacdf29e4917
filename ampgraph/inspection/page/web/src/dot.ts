/** A level as the text that Graphviz reads, and its answer read back. Names are ours alone: nothing of a model is in it. */

const INCH = 72;
const ROW = 6; // boxes without edges that stand side by side

/** A box for Graphviz. `ins` and `outs` are places of ports along its upper and lower border. */
export interface Sized {
  readonly id: string;
  readonly width: number;
  readonly height: number;
  readonly ins: readonly number[];
  readonly outs: readonly number[];
}

export interface Plain {
  readonly width: number;
  readonly height: number;
  readonly centres: ReadonlyMap<string, readonly [number, number]>;
  readonly paths: readonly { readonly from: string; readonly to: string; readonly points: readonly number[] }[];
}

/** An edge, or a part of one, with the ports that it ends at, "" for none. */
export interface Tied {
  readonly from: string;
  readonly to: string;
  readonly edge: number;
  readonly tail: string;
  readonly head: string;
}

/** The text of a level. Ports are points that are pinned to the first and the last rank. */
export function dotOf(boxes: readonly Sized[], edges: readonly Tied[], ins: number, outs: number): string {
  const pins = (name: string, count: number, rank: string) =>
    count === 0
      ? ""
      : `{rank=${rank};${Array.from({ length: count }, (_, at) => `${name}${at}[shape=point,width=.02]`).join(";")}}`;
  return [
    "digraph{graph[nodesep=.22,ranksep=.3,nslimit=3,nslimit1=3,mclimit=.7,outputorder=nodesfirst]",
    'node[shape=box,fixedsize=true,label=""]edge[arrowhead=none]',
    pins("i", ins, "source"),
    pins("o", outs, "sink"),
    ...boxes.map(box),
    ...edges.map(
      (edge) => `${edge.from}${edge.tail && `:${edge.tail}:s`}->${edge.to}${edge.head && `:${edge.head}:n`}`,
    ),
    rows(boxes, edges),
    "}",
  ].join("\n");
}

function box(one: Sized): string {
  const plain = `width=${(one.width / INCH).toFixed(4)},height=${(one.height / INCH).toFixed(4)}`;
  if (one.ins.length === 0 && one.outs.length === 0) return `${one.id}[${plain}]`;
  const width = Math.round(one.width);
  const row = (places: readonly number[], name: string) =>
    `<TR><TD HEIGHT="1" WIDTH="${width}">${cells(places, name, width)}</TD></TR>`;
  const filler = `<TR><TD HEIGHT="${Math.max(1, Math.round(one.height) - 2)}" WIDTH="${width}"></TD></TR>`;
  return `${one.id}[${plain},margin=0,label=<${TABLE}>${row(one.ins, "i")}${filler}${row(one.outs, "o")}</TABLE>>]`;
}

const TABLE = '<TABLE BORDER="0" CELLBORDER="0" CELLSPACING="0" CELLPADDING="0"';

/** A row of a table with a cell of two pixels at each port, in the order of their places. */
function cells(places: readonly number[], name: string, width: number): string {
  if (places.length === 0) return "";
  const sorted = places.map((x, at) => ({ x: Math.round(x), at })).sort((one, other) => one.x - other.x);
  let text = "";
  let from = 0;
  for (const { x, at } of sorted) {
    if (x - 1 > from) text += `<TD HEIGHT="1" WIDTH="${x - 1 - from}"></TD>`;
    text += `<TD HEIGHT="1" WIDTH="2" PORT="${name}${at}"></TD>`;
    from = Math.max(from, x - 1) + 2;
  }
  if (width > from) text += `<TD HEIGHT="1" WIDTH="${width - from}"></TD>`;
  return `${TABLE}><TR>${text}</TR></TABLE>`;
}

/** Unseen edges that put boxes without edges in rows, where there are many. */
function rows(boxes: readonly Sized[], edges: readonly Tied[]): string {
  const tied = new Set(edges.flatMap((edge) => [edge.from, edge.to]));
  const alone = boxes.filter((one) => !tied.has(one.id));
  if (alone.length <= ROW) return "";
  return alone
    .slice(ROW)
    .map((one, at) => `${alone[at]!.id}->${one.id}[style=invis]`)
    .join("\n");
}

/** Reads Graphviz' "plain" format: inches from the lower left become pixels from the upper left. */
export function readPlain(text: string): Plain {
  const centres = new Map<string, readonly [number, number]>();
  const paths: { from: string; to: string; points: number[] }[] = [];
  let [width, height] = [0, 0];
  for (const line of text.split("\n")) {
    const words = line.split(" ");
    const at = (place: number) => Number(words[place]) * INCH;
    if (words[0] === "graph") [width, height] = [at(2), at(3)];
    else if (words[0] === "node") centres.set(words[1]!, [at(2), height - at(3)]);
    else if (words[0] === "edge") {
      if (words.includes("invis")) continue;
      const points: number[] = [];
      for (let point = 0; point < Number(words[3]); point += 1)
        points.push(at(4 + 2 * point), height - at(5 + 2 * point));
      paths.push({ from: words[1]!, to: words[2]!, points });
    }
  }
  return { width, height, centres, paths };
}
