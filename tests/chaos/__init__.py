"""The nightly job under seeded schedules of faults."""
