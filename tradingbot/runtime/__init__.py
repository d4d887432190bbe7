"""Process plumbing without domain.

Signals, streams, logs, progress, retry, concurrency, clock.
"""
