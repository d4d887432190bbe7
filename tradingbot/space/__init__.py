"""Everything that talks to a kronos_space.

Wire format, transport, client, Hub, lifecycle, local process.
"""
