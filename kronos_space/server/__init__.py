"""The HTTP shell: request bodies, errors, pages, metrics, logs and the connection itself."""
