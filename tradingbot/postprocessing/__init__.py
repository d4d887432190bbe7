"""Postprocessing of a model's forecast: combination with experts, and conformal bands."""
