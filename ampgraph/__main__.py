"""`python -m ampgraph`: the command line."""

from ampgraph.cli import main

main()
