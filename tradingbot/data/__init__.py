"""Candles: sources, cache, circuit breaker, and the service in front of them."""
