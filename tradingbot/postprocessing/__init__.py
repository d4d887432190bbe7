"""What turns a model's forecast into the one that is given.

Conformal bands, their fit and storage.
"""
