/** Data embedded in the page: base64 of gzip. */

/** The text that an element holds, "" where there is none. */
export async function embedded(id: string): Promise<string> {
  return new TextDecoder().decode(await bytesOf(id));
}

/** The bytes that an element holds, none where there is none. */
export async function bytesOf(id: string): Promise<ArrayBuffer> {
  const element = document.getElementById(id);
  const text = element?.textContent?.trim() ?? "";
  if (text === "") return new ArrayBuffer(0);
  const stream = new Blob([binary(text)]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}

function binary(text: string): Uint8Array<ArrayBuffer> {
  const characters = atob(text);
  const found = new Uint8Array(characters.length);
  for (let at = 0; at < characters.length; at += 1) found[at] = characters.charCodeAt(at);
  return found;
}
