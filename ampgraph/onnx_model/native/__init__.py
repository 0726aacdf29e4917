"""Operators of ampgraph's own, which a native library computes on NVIDIA GPUs: found in a model, and put in."""
