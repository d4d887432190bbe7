"""What an operator watches the nightly job by: notifications, and metrics for Prometheus."""
