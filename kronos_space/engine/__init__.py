"""Inference: fused weights, key-value cache, sampling, and the worker that owns the engine."""
