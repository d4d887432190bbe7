"""Checkpoints for the tests: the bundled one, and random weights in the published shapes."""

from pathlib import Path

import kronos_space
from kronos_space.verification.synthetic_weights import (
    PUBLISHED_MODELS,
    prescribe_weights,
    published_shape,
    write_checkpoint,
)

__all__ = ["NANO", "PUBLISHED_MODELS", "prescribe_weights", "published_shape", "write_checkpoint"]

NANO = Path(kronos_space.__file__).parent / "checkpoints" / "kronos-nano"
