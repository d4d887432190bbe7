"""What turns a model's forecast into the one that is given: combination, conformal bands."""
