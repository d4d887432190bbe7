"""Anchoring: make sample paths start from the real last close.

The model's first bar follows the newest bar as the tokenizer reconstructs it, whose close is off by
about 1 %. Compared with a day's move that is most of a short forecast's error, and it is known.
Multiplying the prices of all paths by last close ÷ reconstructed close removes it.
"""

from dataclasses import dataclass

# The tokenizer clips at five deviations: among 2048 bars, one far above the others is reconstructed
# as at least a ninth of itself. A lower reconstruction is close to zero, and a ratio to it means
# nothing.
MAX_FACTOR = 10.0
UNUSUAL = 1.25  # warn about a factor above this or below its inverse: the history may be wrong


@dataclass(frozen=True)
class Reconstruction:
    """The reconstructed last close, and the factor that multiplied the paths."""

    last_close: float
    close: float  # may be 0 or less
    factor: float  # 1: not anchored
    warning: str | None = None

    @property
    def error(self) -> float:
        """Return |last_close ÷ close - 1|, but 1 if it is larger or undefined."""
        return min(abs(self.last_close / self.close - 1), 1.0) if self.close > 0 else 1.0


def reconstruction(last_close: float, close: float, *, anchored: bool) -> Reconstruction:
    """Return the Reconstruction for a last close and its reconstructed `close`.

    If the reconstructed close is not positive, or below a tenth of the last close, the paths are
    not anchored, and there is a warning.
    """
    if not anchored:
        return Reconstruction(last_close, close, 1.0)
    misread = f"the model's tokenizer reads the last close {last_close:.6g} as {close:.6g}"
    if not close * MAX_FACTOR >= last_close:
        return Reconstruction(
            last_close,
            close,
            1.0,
            f"{misread}, from which the paths start: too low to anchor them; "
            "prices have changed too much within this history, send a shorter one",
        )
    factor = last_close / close
    warning = None
    if not 1 / UNUSUAL <= factor <= UNUSUAL:
        warning = (
            f"{misread}: the paths' prices were multiplied by {factor:.4g}; "
            "look for a split or a wrong bar in the history"
        )
    return Reconstruction(last_close, close, factor, warning)
