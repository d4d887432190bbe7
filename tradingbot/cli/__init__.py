"""Typer commands. Each parses its options, calls one function of a lower layer and prints the
result.
"""
