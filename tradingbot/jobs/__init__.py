"""The nightly job: its steps, summary, sharding and status."""
