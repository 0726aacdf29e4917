/** The document and the comparison as the package writes them; see document.py and comparison.py for their meaning. */

/** A number of JSON, or the word that stands for one JSON cannot say: "inf", "-inf", "nan". */
export type Figure = number | string;
export type Attribute = number | string | readonly (number | string)[];

export interface Rule {
  readonly name: string;
  readonly category: string;
  readonly why: string;
  readonly source: string;
  readonly place: string;
  readonly conditions: readonly string[];
}

export interface Body {
  readonly id: string;
  readonly parent: string | null;
  readonly owner: string;
  readonly frequency: Figure;
}

export interface Module {
  readonly name: string;
  readonly path: string;
  readonly parent: number;
  readonly type: string;
}

export interface Choice {
  readonly variable: string;
  readonly precision: string;
  readonly cause: string;
  readonly why: string;
  readonly rule: number;
  readonly low: Figure | null;
  readonly high: Figure | null;
  readonly bonds: readonly string[];
}

export interface Node {
  readonly id: string;
  readonly name: string;
  readonly type: string;
  readonly version: number;
  readonly kind: "op" | "cast" | "input" | "output";
  readonly body: string;
  readonly module: number;
  readonly precision: string;
  readonly before: string;
  readonly cause: string;
  readonly why: string;
  readonly rule: number;
  readonly choices: readonly Choice[];
  readonly kernel: string;
  readonly operations: number | null;
  readonly bytes: number | null;
  readonly low: Figure | null;
  readonly high: Figure | null;
  readonly attributes: Readonly<Record<string, Attribute>>;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly bodies: readonly string[];
  readonly origins: readonly string[];
}

export interface Initializer {
  readonly elements: number;
  readonly lowest: Figure | null;
  readonly highest: Figure | null;
  readonly kept: readonly string[];
  readonly error: Figure | null;
  readonly overflowed: number;
  readonly flushed: number;
  readonly sample: readonly Figure[];
}

export interface Value {
  readonly id: string;
  readonly name: string;
  readonly dtype: string;
  readonly kind: string;
  readonly shape: readonly (number | string)[] | null;
  readonly bytes: number | null;
  readonly lowest: Figure | null;
  readonly highest: Figure | null;
  readonly initializer: Initializer | null;
}

export interface Boundary {
  readonly value: string;
  readonly maker: string;
  readonly readers: readonly string[];
  readonly cast: string;
  readonly source: string;
  readonly target: string;
  readonly bytes: number | null;
  readonly cost: Figure | null;
  readonly why: string;
}

export interface Graph {
  readonly bodies: readonly Body[];
  readonly modules: readonly Module[];
  readonly nodes: readonly Node[];
  readonly values: readonly Value[];
  readonly boundaries: readonly Boundary[];
}

export interface Share {
  readonly precision: string;
  readonly nodes: number;
  readonly operations: number;
  readonly bytes: number;
  readonly parameter_bytes: number;
  readonly time: Figure;
}

export interface Hold {
  readonly cause: string;
  readonly rule: number;
  readonly why: string;
  readonly nodes: number;
}

export interface Island {
  readonly nodes: readonly string[];
  readonly types: Readonly<Record<string, number>>;
  readonly cause: string;
  readonly rule: number;
  readonly why: string;
  readonly time: Figure;
  readonly holds: readonly Hold[];
}

export interface KeptParameter {
  readonly value: string;
  readonly bytes: number;
  readonly reader: string;
  readonly cause: string;
  readonly why: string;
}

export interface Summary {
  readonly shares: readonly Share[];
  readonly casts: number;
  readonly cast_bytes: number;
  readonly cast_time: Figure;
  readonly islands: readonly Island[];
  readonly kept_parameters: readonly KeptParameter[];
  readonly cpu_nodes: readonly string[];
  readonly before: Figure;
  readonly after: Figure;
  readonly notes: readonly string[];
}

export interface Document {
  readonly format: number;
  readonly generator: string;
  readonly name: string;
  readonly dialect: "onnx" | "torch.fx";
  readonly state: "converted" | "planned" | "found";
  readonly opsets: Readonly<Record<string, number>>;
  readonly producer: string;
  readonly precision: string;
  readonly target: string;
  readonly device: string;
  readonly objective: string;
  readonly unit: string;
  readonly shapes: Readonly<Record<string, readonly number[]>>;
  readonly rules: readonly Rule[];
  readonly summary: Summary;
  readonly graph: Graph;
  readonly source: Graph | null;
}

export interface Difference {
  readonly value: string;
  readonly name: string;
  readonly node: string;
  readonly type: string;
  readonly order: number;
  readonly elements: number;
  readonly relative: Figure;
  readonly largest: Figure;
  readonly at: readonly number[];
  readonly reference: Figure;
  readonly found: Figure;
  readonly magnitude: Figure;
  readonly overflowed: number;
  readonly flushed: number;
  readonly within: boolean;
  readonly mismatch: string;
  readonly clamped: number;
  readonly flushed_at: readonly number[];
}

export interface Advice {
  readonly value: string;
  readonly why: string;
  readonly keep: readonly string[];
  readonly remedy: string;
}

export interface Comparison {
  readonly format: number;
  readonly generator: string;
  readonly reference: string;
  readonly candidate: string;
  readonly ran: "cuda" | "evaluator";
  readonly runtime: string;
  readonly inputs: string;
  readonly shapes: Readonly<Record<string, readonly number[]>>;
  readonly tolerance: Figure;
  readonly outputs: readonly Difference[];
  readonly values: readonly Difference[];
  readonly unmatched: number;
  readonly first_beyond: string;
  readonly first_overflow: string;
  readonly first_flush: string;
  readonly worst: readonly string[];
  readonly within: boolean;
  readonly advice: readonly Advice[];
  readonly notes: readonly string[];
}
