/** Names as one line of text that shows what it holds: no control, no direction override, no endless length. */

const UNSEEN = /[\u0000-\u001f\u007f-\u009f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff]/gu;

/** Characters that move, hide or turn others, written out; line ends become a sign. */
export function visible(text: string): string {
  return text.replace(UNSEEN, (character) => {
    if (character === "\n") return "⏎";
    if (character === "\t") return "⇥";
    return `⟨${character.codePointAt(0)!.toString(16).toUpperCase().padStart(4, "0")}⟩`;
  });
}

/** At most `limit` characters, the middle left out: ends of names tell more than middles. */
export function clipped(text: string, limit: number): string {
  const short = text.length > limit * 4 ? text.slice(0, limit * 2) + text.slice(-limit * 2) : text;
  const characters = Array.from(visible(short));
  if (characters.length <= limit && short === text) return characters.join("");
  const tail = Math.floor((limit - 1) / 2);
  return `${characters.slice(0, limit - 1 - tail).join("")}…${characters.slice(characters.length - tail).join("")}`;
}

/** Last part of a path of scopes. */
export function lastPart(name: string): string {
  const parts = name.split(/\/+|::/).filter((part) => part !== "");
  return parts.at(-1) ?? name;
}
