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

const STEPS = ["", "k", "M", "G", "T", "P"];

function scaled(value: number, step: number): [string, string] {
  let power = 0;
  let rest = value;
  while (Math.abs(rest) >= step * 0.9995 && power < STEPS.length - 1) {
    rest /= step;
    power += 1;
  }
  return [power === 0 ? String(Math.round(rest * 100) / 100) : rest.toPrecision(3), STEPS[power]!];
}

/** Bytes: "1.20 MiB", as the terminal says them. */
export function bytes(count: number | null | undefined): string {
  if (count === null || count === undefined) return "? B";
  const [figure, unit] = scaled(count, 1024);
  return `${figure} ${unit === "" ? "B" : `${unit.toUpperCase()}iB`}`;
}

/** Floating-point operations: "3.10 GFLOP". */
export function operations(count: number | null | undefined): string {
  if (count === null || count === undefined) return "–";
  const [figure, unit] = scaled(count, 1000);
  return `${figure} ${unit}FLOP`;
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
  [1e-6, "µs"],
  [1e-9, "ns"],
];

/** True where a unit is one of time. */
export function isTime(unit: string): boolean {
  return unit in TIMES;
}

/** A price in the document's unit: "12.3 µs", "24.0 k points". */
export function price(figure: Figure | null | undefined, unit: string): string {
  const value = number(figure);
  if (!Number.isFinite(value)) return digits(figure);
  if (unit === "bytes") return bytes(value);
  if (isTime(unit)) return time(value * TIMES[unit]!);
  const [text, power] = scaled(value, 1000);
  return `${text}${power && ` ${power}`}${unit && ` ${unit}`}`;
}

function time(seconds: number): string {
  if (seconds === 0) return "0 µs";
  const [step, name] = CLOCK.find(([least]) => seconds >= least * 0.9995) ?? [1e-9, "ns"];
  return `${(seconds / step).toPrecision(3)} ${name}`;
}

/** Whole numbers with thin spaces between thousands. */
export function count(value: number): string {
  return String(Math.round(value)).replace(/\B(?=(\d{3})+(?!\d))/g, "\u202f");
}

/** "1 node", "12 nodes". */
export function plural(value: number, word: string): string {
  return `${count(value)} ${word}${value === 1 ? "" : "s"}`;
}

/** "1×64×56×56", "scalar", "?" where unknown. */
export function shape(value: Value): string {
  if (value.shape === null) return "?";
  return value.shape.length === 0 ? "scalar" : value.shape.map((size) => (size === "" ? "?" : String(size))).join("×");
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
