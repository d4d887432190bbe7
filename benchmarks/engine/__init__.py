"""Compare the engine with the reference implementation: speed and memory."""
