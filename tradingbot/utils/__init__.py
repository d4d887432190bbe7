"""Public import paths; the code lives in the packages."""
