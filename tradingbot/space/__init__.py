"""Communication with a kronos_space: wire format, transport, client, Hub, lifecycle."""
