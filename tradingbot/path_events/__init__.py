"""Events on sample paths: their grammar, and their chances."""
