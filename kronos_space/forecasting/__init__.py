"""Candles in, forecast out: checks, normalisation, future times and the answer."""
