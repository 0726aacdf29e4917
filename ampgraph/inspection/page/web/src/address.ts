/** The state that a link carries, in the part of an address after "#". */

import type { Side } from "./side";

export interface Place {
  readonly node: string; // id of the selected node, "" for none
  readonly group: number; // selected group, -1 for none
  readonly open: readonly number[] | null; // null: as at the start
  readonly before: boolean;
}

/** The address of a selected item and what is open on a side; null where that is as at the start. */
export function addressOf(
  side: Side,
  selected: number | null,
  open: readonly number[] | null,
  before: boolean,
): string {
  const item = selected === null ? undefined : side.tree.items[selected];
  const node = item === undefined || item.node < 0 ? "" : side.model.graph.nodes[item.node]!.id;
  const group = item !== undefined && item.node < 0 ? item.id : -1;
  return written({ node, group, open, before });
}

/** The text of a place. */
function written(place: Place): string {
  const parts: string[] = [];
  if (place.node !== "") parts.push(`n=${encodeURIComponent(place.node)}`);
  if (place.group >= 0) parts.push(`g=${place.group}`);
  if (place.open !== null) parts.push(`o=${place.open.map((id) => id.toString(36)).join(".")}`);
  if (place.before) parts.push("v=before");
  return parts.join("&");
}

/** The place of a text; what cannot be read is left out. */
export function read(text: string): Place {
  const words = new URLSearchParams(text.replace(/^#/, "").replaceAll("+", "%2B"));
  const open = words.get("o");
  const group = Number(words.get("g") ?? "-1");
  return {
    node: words.get("n") ?? "",
    group: Number.isInteger(group) ? group : -1,
    open:
      open === null
        ? null
        : open
            .split(".")
            .map((id) => parseInt(id, 36))
            .filter(Number.isInteger),
    before: words.get("v") === "before",
  };
}

/** Makes an address that of the page. */
export function keep(text: string): void {
  try {
    history.replaceState(null, "", `#${text}`);
  } catch {
    // A page inside another has no address of its own.
  }
}
