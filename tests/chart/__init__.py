"""The Helm chart: rendered by a real helm, applied to a stand-in of a cluster."""
