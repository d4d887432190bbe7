"""Typer commands: each parses options, calls a function of a lower layer and prints its result."""
