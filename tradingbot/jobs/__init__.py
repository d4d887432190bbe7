"""The nightly pipeline, its steps, its summary, its sharding, its status."""
