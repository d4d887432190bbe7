"""Anchoring: paths that start from the last close itself.

The model continues tokens, and its first bar follows the newest bar as the tokenizer gives it back,
whose close is off by about one per cent. Beside a day's move that is most of a short forecast's
error, and it is known: multiplying the prices of all paths by last close ÷ reconstructed close
takes it out.
"""

from dataclasses import dataclass

# A wrong or extreme newest bar is cut at five deviations: among 2048 bars, one that is far above
# the others is then read as a ninth of itself at the least. A reconstruction that is lower yet has
# nearly reached zero, and what it is divided by says nothing.
MAX_FACTOR = 10.0
UNUSUAL = 1.25  # a factor beyond this, or below its inverse, is told: the history may be wrong


@dataclass(frozen=True)
class Reconstruction:
    """The last close as the tokenizer gives it back, and what the paths were multiplied by."""

    last_close: float
    close: float  # may be 0 or less
    factor: float  # 1: they were left as they are
    warning: str | None = None

    @property
    def error(self) -> float:
        """|last_close ÷ close - 1|, and 1 where it is more or cannot be said."""
        return min(abs(self.last_close / self.close - 1), 1.0) if self.close > 0 else 1.0


def reconstruction(last_close: float, close: float, *, anchored: bool) -> Reconstruction:
    """What `close`, reconstructed of `last_close`, means for paths that are to be anchored or not.

    Where it is not positive, or less than a tenth of the last close, they are left alone, with a
    warning.
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
