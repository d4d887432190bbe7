"""Typer commands: parse options, call one function below, print the result."""
