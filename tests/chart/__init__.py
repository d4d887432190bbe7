"""The Helm chart, rendered by the real helm and applied to a fake cluster."""
