"""Kronos behind HTTP: the service that runs as a Hugging Face Docker Space."""

__version__ = "0.1.0"
