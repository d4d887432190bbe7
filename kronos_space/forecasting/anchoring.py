"""Anchoring: make sample paths start from the real last close.

The tokenizer reconstructs the newest bar of the history from its tokens, and the model's first bar
follows the reconstructed bar. The reconstructed close differs from the real one by about 1 %. This
difference is most of a short forecast's error, and it is known. To remove the difference, multiply
the prices of all paths by last close ÷ reconstructed close.
"""

from dataclasses import dataclass

# The tokenizer clips values at five deviations. So among 2048 bars, a close far above all others is
# reconstructed as at least a ninth of its value. A lower reconstruction is close to zero, and a
# ratio to a number close to zero has no meaning.
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

    If the reconstructed close is not positive, or is below a tenth of the last close, the factor is
    1, so the paths are not anchored, and the result has a warning.
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
