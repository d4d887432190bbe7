"""The error for failures of a fine-tuning that the user can fix."""


class FinetuneError(Exception):
    """A fine-tuning cannot start or continue. One line: what, why, and what to do."""
