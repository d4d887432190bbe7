"""The engine beside the reference implementation: speed and memory."""
