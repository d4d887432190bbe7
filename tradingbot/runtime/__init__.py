"""Process plumbing without domain: signals, streams, logs, progress, retry, threads, clock."""
