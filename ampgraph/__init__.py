"""ampgraph: a mixed-precision compiler pass with every cast visible."""
