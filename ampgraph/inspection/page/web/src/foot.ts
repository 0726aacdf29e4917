/** The line below the picture: how much of the graph it shows, or why it is not the one that was asked for. */

import { byId } from "./dom";
import * as format from "./format";
import { visible } from "./names";
import { MOST, visible as shown } from "./opening";
import type { Side } from "./side";

/** Says how many boxes stand for how many nodes, and how many groups were closed to keep to the limit. */
export function tellShown({ tree, model }: Side, open: ReadonlySet<number>, closed: number): void {
  const nodes = format.plural(model.graph.nodes.length, "node");
  const notice =
    closed > 0
      ? ` ${format.plural(closed, "group")} closed: at most ${MOST} boxes are drawn. Open or search for what you miss.`
      : "";
  tell(`${format.plural(shown(tree, open), "box").replace("boxs", "boxes")} for ${nodes}.${notice}`, false);
}

/** Says that the layout failed; `kept` where an older picture is still there. */
export function tellFailure(error: unknown, kept: boolean): void {
  const what = kept ? "The picture stays as it was" : "There is no picture; reasons and lists are whole";
  tell(`${what}: the layout failed: ${visible(error instanceof Error ? error.message : String(error))}`, true);
}

function tell(text: string, bad: boolean): void {
  const line = byId("count");
  line.textContent = text;
  line.title = bad ? text : "";
  line.classList.toggle("failure", bad);
}
