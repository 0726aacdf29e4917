"""Commands that measure: each prints a table and keeps its figures in benchmarks/results/."""
