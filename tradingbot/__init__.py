"""Trading bots with Kronos forecasts: the nightly job, the client and the tools. No torch."""

__version__ = "0.1.0"
