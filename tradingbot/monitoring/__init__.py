"""Monitoring of the nightly job: notifications, and metrics for Prometheus."""
