"""Inference: fused weights, key-value cache, sampling, and the worker that runs the engine."""
