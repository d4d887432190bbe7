"""Postprocessing of a model's forecast: combination with simple experts, and conformal bands."""
