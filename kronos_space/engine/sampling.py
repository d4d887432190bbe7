"""Draw tokens from logits: pure functions and their parameters."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kronos_space.settings import DEFAULT_SAMPLES, DEFAULT_TOP_P


class NotFinite(ArithmeticError):
    """The model computed a NaN or an infinite number, so there is no forecast."""


@dataclass(frozen=True)
class SamplingParams:
    """The number of paths, and the parameters for drawing each token.

    temperature, top_k and top_p are applied in this order, as in transformers. The logits are
    divided by the temperature. Then all but the `top_k` most likely tokens are dropped (0: none).
    Then all but the smallest set of most likely tokens with a total probability of at least `top_p`
    are dropped (1: none). `top_k=1` always draws the most likely token.
    """

    samples: int = DEFAULT_SAMPLES
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = DEFAULT_TOP_P

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise ValueError(f"samples={self.samples}: expected at least 1")
        if not (0 < self.temperature < float("inf")):
            raise ValueError(f"temperature={self.temperature}: expected more than 0")
        if self.top_k < 0:
            raise ValueError(f"top_k={self.top_k}: expected 0 (off) or more")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p={self.top_p}: expected more than 0 and at most 1")

    @property
    def greedy(self) -> bool:
        return self.top_k == 1


def random_numbers(seed: int, samples: int, horizon: int) -> Tensor:
    """Return uniform numbers in [0, 1) by path, step and token: float32 (samples, horizon, 2).

    The numbers depend only on these arguments, not on the batch. With more samples, the first paths
    get the same numbers as with fewer samples.
    """
    bits = np.random.Philox(key=seed)
    return torch.from_numpy(np.random.Generator(bits).random((samples, horizon, 2), np.float32))


def sample(logits: Tensor, sampling: SamplingParams, uniform: Tensor) -> Tensor:
    """Draw one token per row: logits (rows, tokens), uniform (rows,) -> (rows,)."""
    if sampling.greedy:
        return best(logits)
    weights, tokens = candidates(logits, sampling)
    return tokens.gather(-1, draw(weights, uniform).unsqueeze(-1)).squeeze(-1)


def best(logits: Tensor) -> Tensor:
    """Return the most likely token of each row, (rows,), from logits (rows, tokens)."""
    largest, tokens = logits.max(dim=-1)
    require_finite(largest)
    return tokens


def candidates(logits: Tensor, sampling: SamplingParams) -> tuple[Tensor, Tensor]:
    """Return the tokens left by temperature, top_k and top_p, from logits (rows, tokens).

    The result is their unnormalised probabilities and their numbers, both (rows, at most
    `tokens`), in the order of the tokens. A dropped token has probability 0 or is missing.
    Example with top_p=0.7: of the probabilities 0.5, 0.3, 0.2, it keeps 0.5 (less than 0.7) and 0.3
    (total 0.8), and drops 0.2.
    """
    if sampling.temperature != 1:
        # subtract the largest, so that no temperature is too small to divide by
        logits = (logits - logits.amax(dim=-1, keepdim=True)) / sampling.temperature
    if 0 < sampling.top_k < logits.shape[-1]:
        weakest = torch.topk(logits, sampling.top_k).values[..., -1:]
        logits = logits.masked_fill(logits < weakest, -torch.inf)
    probabilities = torch.softmax(logits, dim=-1)
    require_finite(probabilities[..., 0])  # one number that is not finite makes its row NaN
    if sampling.top_p == 1:
        return probabilities, torch.arange(logits.shape[-1]).expand_as(logits)
    return _nucleus(probabilities.numpy(), sampling.top_p)


def _nucleus(probabilities: NDArray[np.float32], top_p: float) -> tuple[Tensor, Tensor]:
    """Return the `candidates` for top_p.

    Most tokens are so unlikely that top_p drops all of them. Sorting takes most of the time, and
    removing these tokens first leaves a quarter of the sorting. numpy sorts several times faster
    than torch.
    """
    rows, tokens = probabilities.shape
    [likely] = np.nonzero(probabilities.ravel() > 0.999 * (1 - top_p) / tokens)
    counts = np.diff(np.searchsorted(likely, np.arange(rows + 1) * tokens))
    taken = np.arange(counts.max()) < counts[:, None]  # (rows, width)
    weights, names = np.zeros(taken.shape, np.float32), np.zeros(taken.shape, np.int64)
    weights[taken], names[taken] = probabilities.ravel()[likely], likely % tokens
    falling = np.sort(weights, axis=-1)[:, ::-1]
    mass = torch.from_numpy(falling.copy()).cumsum(dim=-1).numpy()
    last = np.minimum((mass < top_p).sum(axis=-1, keepdims=True), taken.shape[1] - 1)
    weights[weights < np.take_along_axis(falling, last, axis=-1)] = 0
    return torch.from_numpy(weights), torch.from_numpy(names)


def draw(weights: Tensor, uniform: Tensor) -> Tensor:
    """Draw one column per row by inverting the distribution function.

    weights (rows, columns), uniform (rows,) -> columns (rows,). One number decides the column of a
    row. So rounding errors change a column only if that number is within rounding error of the
    boundary between two columns.
    """
    cumulative = weights.cumsum(dim=-1)
    whole = cumulative[..., -1:].contiguous()
    # a number that rounds up to the total belongs to the last column
    below = torch.nextafter(whole, torch.zeros(()))
    numbers = torch.minimum(uniform.unsqueeze(-1) * whole, below)
    return torch.searchsorted(cumulative, numbers, right=True).squeeze(-1)


def require_finite(numbers: Tensor) -> None:
    """Raise NotFinite for a NaN or infinite number, which comparisons would hide."""
    if not torch.isfinite(numbers).all():
        raise NotFinite("the model's numbers are not finite")
