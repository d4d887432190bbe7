"""Comparison of the engine with the reference implementation; a developer's tool, not deployed."""
