"""What stops a fine-tuning for a reason that the user can mend."""


class FinetuneError(Exception):
    """A fine-tuning cannot be done, or go on; one line: what, why, and the way out."""
