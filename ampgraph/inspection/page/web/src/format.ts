/** Figures with units, as short as they can be told. */

import type { Attribute, Figure, Value } from "./contract";

/** A figure as a number; words that JSON has for none are read back. */
export function number(figure: Figure | null | undefined): number {
  if (figure === null || figure === undefined) return Number.NaN;
  if (typeof figure === "number") return figure;
  const word = figure.toLowerCase();
  if (word.startsWith("-inf")) return -Infinity;
  return word.startsWith("inf") || word.startsWith("+inf") ? Infinity : Number.NaN;
}

/** Three digits, or "∞", or "–" for unknown. */
export function digits(figure: Figure | null | undefined): string {
  const value = number(figure);
  if (Number.isNaN(value)) return typeof figure === "string" ? "NaN" : "–";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  if (value === 0) return "0";
  const size = Math.abs(value);
  const text = size >= 1e6 || size < 1e-3 ? scientific(value) : compact(value, size);
  return text.replace("-", "−");
}

function scientific(value: number): string {
  return value
    .toExponential(2)
    .replace(/\.?0+e/, "e")
    .replace("e+", "e");
}

function compact(value: number, size: number): string {
  if (Number.isInteger(value)) return String(value);
  return size >= 1000 ? value.toFixed(0) : String(Number(value.toPrecision(3)));
}

/** A figure with four digits in the largest unit that it reaches, as the terminal says it. */
function scaled(value: number, steps: readonly (readonly [number, string])[], least: string): string {
  const [size, unit] = steps.find(([size]) => Math.abs(value) >= size) ?? [1, least];
  return `${Number((value / size).toPrecision(4))} ${unit}`;
}

const BYTES: readonly (readonly [number, string])[] = [
  [2 ** 30, "GiB"],
  [2 ** 20, "MiB"],
  [2 ** 10, "KiB"],
];

/** Bytes: "1.203 MiB". */
export function bytes(count: number | null | undefined): string {
  if (count === null || count === undefined) return "? bytes";
  return scaled(Math.round(count), BYTES, "bytes");
}

const OPERATIONS: readonly (readonly [number, string])[] = [
  [1e12, "T"],
  [1e9, "G"],
  [1e6, "M"],
  [1e3, "k"],
];

/** Floating-point operations: "3.1 GFLOP". */
export function operations(count: number | null | undefined): string {
  if (count === null || count === undefined) return "–";
  const [size, unit] = OPERATIONS.find(([size]) => count >= size) ?? [1, ""];
  return `${Number((count / size).toPrecision(3))} ${unit}FLOP`;
}

const TIMES: Readonly<Record<string, number>> = {
  picoseconds: 1e-12,
  nanoseconds: 1e-9,
  microseconds: 1e-6,
  milliseconds: 1e-3,
  seconds: 1,
};
const CLOCK: readonly (readonly [number, string])[] = [
  [1, "s"],
  [1e-3, "ms"],
  [1e-6, "us"],
  [1e-9, "ns"],
];

/** True where a unit is one of time. */
export function isTime(unit: string): boolean {
  return unit in TIMES;
}

/** True where a unit measures something: points only put plans in order. */
export function isPriced(unit: string): boolean {
  return unit !== "points";
}

/** A price in the document's unit, as reasons say it: "12.3 us", "24 points". */
export function price(figure: Figure | null | undefined, unit: string): string {
  const value = number(figure);
  if (!Number.isFinite(value)) return digits(figure);
  if (unit === "bytes") return bytes(value);
  if (value === 0) return "0";
  if (!isTime(unit)) return `${Math.round(value)}${unit && ` ${unit}`}`;
  const seconds = value * TIMES[unit]!;
  const [size, name] = CLOCK.find(([least]) => seconds >= least * (1 - 1e-12)) ?? [1e-12, "ps"];
  return `${Number((seconds / size).toPrecision(4))} ${name}`;
}

/** A price, "" where the unit measures nothing. */
export function cost(figure: Figure | null | undefined, unit: string): string {
  return isPriced(unit) ? price(figure, unit) : "";
}

/** Whole numbers with thin spaces between thousands. */
export function count(value: number): string {
  return String(Math.round(value)).replace(/\B(?=(\d{3})+(?!\d))/g, "\u202f");
}

/** "1 node", "12 nodes". */
export function plural(value: number, word: string): string {
  return `${count(value)} ${word}${value === 1 ? "" : "s"}`;
}

/** "1 boundary", "12 boundaries". */
export function boundaries(value: number): string {
  return plural(value, "boundary").replace("boundarys", "boundaries");
}

/** "1×64×56×56", "scalar", "?" where unknown. */
export function shape(value: Value): string {
  if (value.shape === null) return "?";
  return value.shape.length === 0 ? "scalar" : value.shape.map((size) => (size === "" ? "?" : String(size))).join("×");
}

/** "x=1×64  n=scalar" of shapes by name, "" for none. */
export function shapes(all: Readonly<Record<string, readonly number[]>>): string {
  return Object.entries(all)
    .map(([name, sizes]) => `${name}=${sizes.join("×") || "scalar"}`)
    .join("  ");
}

/** An attribute's value as text. */
export function attribute(value: Attribute): string {
  if (typeof value === "object") return `[${value.map((item) => String(item)).join(", ")}]`;
  return typeof value === "number" ? String(value) : value;
}

/** The interval that a value is proved to stay in. */
export function interval(low: Figure | null, high: Figure | null): string {
  if (low === null && high === null) return "";
  if (low === null) return `≤ ${digits(high)}`;
  return high === null ? `≥ ${digits(low)}` : `${digits(low)} … ${digits(high)}`;
}
