"""Process utilities: signals, streams, logs, progress, retries, threads, clock."""
