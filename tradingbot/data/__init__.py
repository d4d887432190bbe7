"""Candles: sources, cache, circuit breaker, the service in front of them."""
