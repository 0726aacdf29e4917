"""Commands of the program, one a module, each loading what it needs when it is run."""
