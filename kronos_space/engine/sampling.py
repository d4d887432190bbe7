"""How a token is drawn from logits: pure functions and the parameters they take."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kronos_space.settings import DEFAULT_SAMPLES, DEFAULT_TOP_P


class NotFinite(ArithmeticError):
    """The model computed a NaN or an infinite number, from which no forecast follows."""


@dataclass(frozen=True)
class SamplingParams:
    """How many paths, and how each token of a path is drawn.

    temperature, top_k and top_p act one after the other, as in transformers: the logits are
    divided by the temperature, then all but the `top_k` best tokens are dropped (0: none), then
    all but the smallest set of best tokens that holds a share of at least `top_p` (1: none).
    `top_k=1` always takes the best token.
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
    """Uniform in [0, 1) for each path, step and token: float32 (samples, horizon, 2).

    They depend on these three only, not on the batch, and the first paths of more samples are
    the paths of fewer.
    """
    bits = np.random.Philox(key=seed)
    return torch.from_numpy(np.random.Generator(bits).random((samples, horizon, 2), np.float32))


def sample(logits: Tensor, sampling: SamplingParams, uniform: Tensor) -> Tensor:
    """One token a row: logits (rows, tokens), uniform (rows,) -> (rows,)."""
    if sampling.greedy:
        return best(logits)
    weights, tokens = candidates(logits, sampling)
    return tokens.gather(-1, draw(weights, uniform).unsqueeze(-1)).squeeze(-1)


def best(logits: Tensor) -> Tensor:
    """(rows, tokens) -> tokens (rows,)."""
    largest, tokens = logits.max(dim=-1)
    require_finite(largest)
    return tokens


def candidates(logits: Tensor, sampling: SamplingParams) -> tuple[Tensor, Tensor]:
    """logits: (rows, tokens) -> what is left after temperature, top_k and top_p.

    Both (rows, at most `tokens`), in the order of the tokens: their probabilities, not normalised,
    and what tokens they are. A dropped token has exactly 0, or is not there. Example, with
    top_p=0.7: logits whose probabilities are 0.5, 0.3, 0.2 keep 0.5 (not yet 0.7) and 0.3 (0.8 in
    all), and drop 0.2.
    """
    if sampling.temperature != 1:
        # less the largest, so that no temperature is too low to divide by
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
    """The `candidates` of top_p.

    Most tokens are so unlikely that all of them together are less than what is dropped. Without
    them the rest is sorted, which costs most, in a quarter of the time. By numpy, which is several
    times faster at it than torch.
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
    """Inverse of the distribution function: (rows, columns), (rows,) -> columns (rows,).

    One number decides, so rounding changes a column only where the number falls within rounding
    of a boundary between two.
    """
    cumulative = weights.cumsum(dim=-1)
    whole = cumulative[..., -1:].contiguous()
    below = torch.nextafter(whole, torch.zeros(()))  # what rounds up to the whole is the last one's
    numbers = torch.minimum(uniform.unsqueeze(-1) * whole, below)
    return torch.searchsorted(cumulative, numbers, right=True).squeeze(-1)


def require_finite(numbers: Tensor) -> None:
    """Raise NotFinite where one of them is none: comparing would hide it."""
    if not torch.isfinite(numbers).all():
        raise NotFinite("the model's numbers are not finite")
