"""Measurements of speed, memory and quality. `make help` lists those that make runs."""
