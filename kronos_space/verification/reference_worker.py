"""Forecasts by the reference package. Run inside its environment, never imported by ours.

`reference.py` starts it as `python -E -s reference_worker.py`, writes one JSON object to its stdin,
and reads one from its stdout:

    {"model": folder, "tokenizer": folder, "max_context", "threads", "record",
     "calls": [{"series": [{"history": {"timestamp": […], "open": […], …}, "targets": […]}],
                "samples", "top_k", "top_p"}]}

    {"torch": version, "loaded_mib", "peak_mib",
     "calls": [{"seconds", "values": (series, horizon, 6), and where record is set
                "s1", "s2": (series * samples, horizon), "margin"}]}
"""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import torch
from memory import memory_mib  # type: ignore[import-not-found]  # a neighbour of this script
from model import kronos  # type: ignore[import-not-found]  # the reference package's own name


def main() -> None:
    question = json.load(sys.stdin)
    torch.manual_seed(0)
    torch.set_num_threads(question["threads"])
    # The pinned huggingface_hub leaves loaded modules in training mode. That adds dropout and
    # restricts the dependency layer to the oldest bar.
    model = kronos.Kronos.from_pretrained(question["model"]).eval()
    tokenizer = kronos.KronosTokenizer.from_pretrained(question["tokenizer"]).eval()
    predictor = kronos.KronosPredictor(
        model, tokenizer, device="cpu", max_context=question["max_context"]
    )
    loaded = memory_mib("VmRSS")
    calls = [answer(predictor, call, record=question["record"]) for call in question["calls"]]
    peak = memory_mib("VmHWM")
    json.dump(
        {"torch": torch.__version__, "loaded_mib": loaded, "peak_mib": peak, "calls": calls},
        sys.stdout,
    )


def answer(predictor: Any, call: dict[str, Any], *, record: bool) -> dict[str, Any]:
    """Forecast with the reference's batching and its averaging over sample paths."""
    histories = [pd.DataFrame(series["history"]) for series in call["series"]]
    past = [pd.to_datetime(history.pop("timestamp")) for history in histories]
    future = [pd.Series(pd.to_datetime(series["targets"])) for series in call["series"]]
    horizon = len(future[0])
    with recorded(predictor.tokenizer) if record else nullcontext() as notes:
        start = time.perf_counter()
        frames = predictor.predict_batch(
            histories,
            past,
            future,
            horizon,
            T=1.0,
            top_k=call["top_k"],
            top_p=call["top_p"],
            sample_count=call["samples"],
            verbose=False,
        )
        seconds = time.perf_counter() - start
    result = {"seconds": seconds, "values": [frame.to_numpy().tolist() for frame in frames]}
    if notes is not None:
        s1, s2 = (tokens[:, -horizon:].tolist() for tokens in notes.tokens)
        result |= {"s1": s1, "s2": s2, "margin": notes.margin}
    return result


@dataclass
class Notes:
    """Tokens and margins recorded while the reference forecasts."""

    tokens: list[torch.Tensor] = field(default_factory=list)  # s1 and s2 of context and forecast
    margin: float = float("inf")  # smallest difference between the best and the second logit


@contextmanager
def recorded(tokenizer: Any) -> Iterator[Notes]:
    """Record the tokens that are decoded, and how close the choice of each token was."""
    notes = Notes()
    decode, sample = tokenizer.decode, kronos.sample_from_logits

    def noted_decode(tokens: list[torch.Tensor], **kwargs: Any) -> torch.Tensor:
        notes.tokens = tokens
        bars: torch.Tensor = decode(tokens, **kwargs)
        return bars

    def noted_sample(logits: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        best, second = logits.topk(2, dim=-1).values.unbind(-1)
        notes.margin = min(notes.margin, float((best - second).min()))
        drawn: torch.Tensor = sample(logits, **kwargs)
        return drawn

    tokenizer.decode, kronos.sample_from_logits = noted_decode, noted_sample
    try:
        yield notes
    finally:
        tokenizer.decode, kronos.sample_from_logits = decode, sample


if __name__ == "__main__":
    main()
