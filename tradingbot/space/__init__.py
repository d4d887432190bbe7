"""Everything that talks to a kronos_space: wire format, transport, client, Hub, lifecycle."""
