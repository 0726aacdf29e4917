"""Declarative rules, one TOML file per operator family; read by `ampgraph.rulebook`."""
