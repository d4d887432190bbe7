"""How a token is drawn from logits: pure functions and the parameters they take."""

from dataclasses import dataclass

import numpy as np
import torch
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


def filtered_probabilities(logits: Tensor, sampling: SamplingParams) -> Tensor:
    """logits: (rows, tokens) -> what is left after temperature, top_k and top_p, not normalised.

    A dropped token has exactly 0. Example, with top_p=0.7: logits whose probabilities are
    0.5, 0.3, 0.2 keep 0.5 (not yet 0.7) and 0.3 (0.8 in all), and drop 0.2.
    """
    logits = logits.float()
    # less the largest, so that no temperature is too low to divide by
    logits = (logits - logits.amax(dim=-1, keepdim=True)) / sampling.temperature
    tokens = logits.shape[-1]
    if 0 < sampling.top_k < tokens:
        weakest = torch.topk(logits, sampling.top_k).values[..., -1:]
        logits = logits.masked_fill(logits < weakest, -torch.inf)
    probabilities = torch.softmax(logits, dim=-1)
    if sampling.top_p < 1:
        probabilities.masked_fill_(probabilities < _weakest_kept(probabilities, sampling.top_p), 0)
    return probabilities


def best(logits: Tensor) -> Tensor:
    """(rows, tokens) -> tokens (rows,)."""
    largest, tokens = logits.max(dim=-1)
    require_finite(largest)
    return tokens


def draw(probabilities: Tensor, uniform: Tensor) -> Tensor:
    """Inverse of the distribution function: (rows, tokens), (rows,) -> tokens (rows,).

    One number decides one token, so rounding changes a token only where the number falls
    within rounding of a boundary between two tokens.
    """
    cumulative = probabilities.cumsum(dim=-1)
    whole = cumulative[..., -1:].contiguous()
    require_finite(whole)
    tokens = torch.searchsorted(cumulative, uniform.unsqueeze(-1) * whole, right=True)
    # a number that rounds up to the whole belongs to the last token that was kept
    last_kept = torch.searchsorted(cumulative, whole)
    return torch.minimum(tokens, last_kept).squeeze(-1)


def require_finite(numbers: Tensor) -> None:
    """Raise NotFinite where one of them is none: comparing would hide it."""
    if not torch.isfinite(numbers).all():
        raise NotFinite("the model's numbers are not finite")


def _weakest_kept(probabilities: Tensor, top_p: float) -> Tensor:
    """The smallest probability inside the nucleus: (rows, tokens) -> (rows, 1).

    Only values are sorted, by numpy, which is several times faster here than torch.
    """
    ascending = torch.from_numpy(np.sort(probabilities.numpy(), axis=-1))
    dropped = ascending.cumsum(dim=-1) <= 1 - top_p
    dropped[..., -1] = False
    return ascending.gather(-1, dropped.sum(dim=-1, keepdim=True))
