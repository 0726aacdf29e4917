"""Inspection: a model as one document of what is in which precision and why, and the ways to look at it."""
