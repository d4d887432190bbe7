"""Public import paths. The code is in the packages."""
