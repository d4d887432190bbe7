"""Tokens are drawn from exactly the distribution that the parameters describe."""

import pytest
import torch
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from kronos_space.engine.sampling import (
    SamplingParams,
    candidates,
    draw,
    random_numbers,
    sample,
)


def some_logits(rows: int = 50, tokens: int = 1024) -> torch.Tensor:
    return torch.randn(rows, tokens, generator=torch.Generator().manual_seed(5)) * 3


def filtered(logits: torch.Tensor, sampling: SamplingParams) -> torch.Tensor:
    """Return the filtered probability of each token: (rows, tokens)."""
    weights, tokens = candidates(logits, sampling)
    return torch.zeros_like(logits).scatter_add(-1, tokens, weights)


def normalised(weights: torch.Tensor) -> torch.Tensor:
    return weights / weights.sum(dim=-1, keepdim=True)


@pytest.mark.parametrize(
    "sampling",
    [
        SamplingParams(top_p=1.0),
        SamplingParams(top_p=0.9),
        SamplingParams(top_p=0.1),
        SamplingParams(top_k=7, top_p=1.0),
        SamplingParams(top_k=50, top_p=0.6),
        SamplingParams(temperature=0.3, top_p=0.9),
        SamplingParams(temperature=2.5, top_k=5000, top_p=0.99),
    ],
)
def test_filtering_equals_the_transformers_library(sampling: SamplingParams) -> None:
    logits = some_logits()
    expected = TemperatureLogitsWarper(sampling.temperature)(None, logits)
    if sampling.top_k:
        expected = TopKLogitsWarper(sampling.top_k)(None, expected)
    if sampling.top_p < 1:
        expected = TopPLogitsWarper(sampling.top_p)(None, expected)

    ours = normalised(filtered(logits, sampling))

    torch.testing.assert_close(ours, torch.softmax(expected, dim=-1), atol=1e-6, rtol=1e-5)


def reference_top_p(logits: torch.Tensor, top_p: float) -> torch.Tensor:
    """Apply the reference's rule row by row: keep tokens up to the one that exceeds top_p."""
    kept = torch.zeros_like(logits, dtype=torch.bool)
    for row, probabilities in enumerate(torch.softmax(logits, dim=-1)):
        mass = 0.0
        for token in probabilities.argsort(descending=True):
            kept[row, token] = True
            mass += float(probabilities[token])
            if mass > top_p:
                break
    return kept


@pytest.mark.parametrize("top_p", [0.05, 0.5, 0.9, 0.99])
def test_top_p_alone_keeps_the_references_tokens(top_p: float) -> None:
    logits = some_logits(rows=20, tokens=200)

    kept = filtered(logits, SamplingParams(top_p=top_p)) > 0

    assert torch.equal(kept, reference_top_p(logits, top_p))


@pytest.mark.parametrize("top_k", [1, 3, 100])
def test_top_k_alone_keeps_the_references_tokens(top_k: int) -> None:
    logits = some_logits(rows=20, tokens=200)

    kept = filtered(logits, SamplingParams(top_k=top_k, top_p=1.0)) > 0

    assert torch.equal(kept, logits >= logits.topk(top_k).values[:, -1:])


def test_a_random_number_selects_the_token_whose_probability_interval_contains_it() -> None:
    weights = torch.tensor([[0.0, 1.0, 0.0, 3.0, 0.0]]).repeat(5, 1)

    tokens = draw(weights, torch.tensor([0.0, 0.2499, 0.25, 0.9, 0.99999994]))

    assert tokens.tolist() == [1, 1, 3, 3, 3]


def test_a_dropped_token_is_never_drawn() -> None:
    sampling = SamplingParams(top_p=0.3)
    logits = some_logits(rows=200)
    uniform = random_numbers(seed=3, samples=200, horizon=1)[:, 0, 0]

    tokens = sample(logits, sampling, uniform)

    weights = filtered(logits, sampling)
    assert (weights.gather(1, tokens[:, None]) > 0).all()


def test_tokens_are_drawn_as_often_as_their_probability_says() -> None:
    probabilities = torch.tensor([0.5, 0.3, 0.15, 0.05])
    uniform = random_numbers(seed=11, samples=20_000, horizon=1)[:, 0, 0]

    tokens = draw(probabilities.expand(20_000, 4), uniform)

    share = torch.bincount(tokens, minlength=4) / 20_000
    # three standard deviations
    torch.testing.assert_close(share, probabilities, atol=0.011, rtol=0)


def test_random_numbers_are_the_same_on_every_machine() -> None:
    numbers = random_numbers(seed=7, samples=2, horizon=2)

    assert numbers.shape == (2, 2, 2)
    assert numbers.flatten()[:3].tolist() == pytest.approx(NUMBERS_OF_SEED_7, abs=0)


NUMBERS_OF_SEED_7 = [0.16372650861740112, 0.8720734119415283, 0.9722633361816406]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"samples": 0}, "samples=0: expected at least 1"),
        ({"temperature": 0.0}, "temperature=0.0: expected more than 0"),
        ({"temperature": float("nan")}, "temperature=nan: expected more than 0"),
        ({"top_k": -1}, "top_k=-1: expected 0 \\(off\\) or more"),
        ({"top_p": 0.0}, "top_p=0.0: expected more than 0 and at most 1"),
        ({"top_p": 1.5}, "top_p=1.5: expected more than 0 and at most 1"),
    ],
)
def test_an_invalid_parameter_is_named(wrong: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SamplingParams(**wrong)
