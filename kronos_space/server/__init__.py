"""The HTTP layer: request bodies, errors, pages, metrics, logs and connections."""
