"""Pretrained weights: the pinned catalogue, their download and their loading."""
