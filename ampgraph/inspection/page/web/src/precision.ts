/** Precisions: their marks and colours. A mark always goes with a colour, which alone not everyone can tell. */

const MARKS: Readonly<Record<string, string>> = {
  float16: "f16",
  bfloat16: "bf16",
  float32: "f32",
  float64: "f64",
  other: "–",
  "": "–",
};
const CLASSES: Readonly<Record<string, string>> = {
  float16: "p-f16",
  bfloat16: "p-bf16",
  float32: "p-f32",
  float64: "p-f64",
};
const ORDER = ["float16", "bfloat16", "float32", "float64"];

/** Short mark: "f16". */
export function mark(precision: string): string {
  return MARKS[precision] ?? precision.replace(/^float/, "f");
}

/** Class of style sheets. */
export function precisionClass(precision: string): string {
  if (precision in CLASSES) return CLASSES[precision]!;
  return precision.startsWith("float8") ? "p-f8" : "p-other";
}

/** Low ones first, unknown ones last. */
export function byPrecision(one: string, other: string): number {
  const place = (name: string) =>
    ORDER.includes(name) ? ORDER.indexOf(name) : ORDER.length + (name === "other" ? 1 : 0);
  return place(one) - place(other) || (one < other ? -1 : one > other ? 1 : 0);
}
