"""The HTTP service for Kronos forecasts, which runs as a Hugging Face Docker Space."""

__version__ = "0.1.0"
