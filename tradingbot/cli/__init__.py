"""Typer commands: each parses options, calls one function of a lower layer and prints the
result."""
