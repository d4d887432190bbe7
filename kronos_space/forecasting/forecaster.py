"""From candles to a forecast: cut, normalise, generate, scale back, anchor, repair, summarise.

    prepared = forecaster.prepare(request)            # validates, cuts and normalises
    [paths] = forecaster.generate([prepared.prompt])  # runs the engine
    prepared.values(paths)                            # scaled back, otherwise unchanged
    prepared.answer(paths)                            # anchored, repaired and summarised

The service queues the prompt for the engine instead of calling `generate` directly. `forecast` runs
all steps.
"""

import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from kronos_space.engine.engine import Engine, Paths, Prompt
from kronos_space.engine.lanes import Steps
from kronos_space.engine.quantiles import path_quantiles
from kronos_space.engine.sampling import SamplingParams
from kronos_space.exceptions import InvalidHistory, InvalidRequest
from kronos_space.forecasting.anchoring import Reconstruction, reconstruction
from kronos_space.forecasting.candle_warnings import candle_warnings
from kronos_space.forecasting.candles import (
    COLUMNS,
    Floats,
    History,
    Scale,
    history_from_rows,
    normalise,
    repair,
)
from kronos_space.forecasting.timestamps import Times, inferred_times, parse_times, time_features
from kronos_space.path_events.event_probabilities import chances
from kronos_space.path_events.grammar import Event, parse_events
from kronos_space.schemas import ForecastRequest
from kronos_space.settings import Settings
from kronos_space.weights.checkpoint import Checkpoint

# minimum price in a path, as a share of the last close
FLOOR = 1e-6


@dataclass(frozen=True)
class Prepared:
    """A request ready for the engine, and the conversion of the engine's paths into an answer."""

    # the beginning of the answer; the request is not kept, because its rows are large
    head: dict[str, Any]
    last_close: float
    targets: list[str]
    quantiles: list[float]
    return_paths: bool
    events: tuple[Event, ...]
    anchored: bool
    warnings: list[str]
    prompt: Prompt
    scale: Scale

    def values(self, paths: Paths) -> Floats:
        """Return the model's values in prices and volumes: float64 (samples, horizon, 6).

        Columns are those of candles.COLUMNS. The values are neither anchored nor repaired, so a
        high may be below its close.
        """
        return self.scale.restore(paths.bars)

    def reconstruction(self, paths: Paths) -> Reconstruction:
        """Return the reconstructed last close and the anchoring factor."""
        close = float(self.scale.restore(paths.reconstruction)[3])
        return reconstruction(self.last_close, close, anchored=self.anchored)

    def answer(self, paths: Paths) -> dict[str, Any]:
        """Return the body of a ForecastResponse: paths anchored, repaired, then summarised."""
        start = self.reconstruction(paths)
        values = self.values(paths)
        values[..., :4] *= start.factor
        values = repair(values, floor=self.last_close * FLOOR)[..., :5]
        closes = values[..., 3]
        means = values.mean(axis=0).tolist()
        quantiles = path_quantiles(closes, self.quantiles).T.tolist()
        prob_up = (closes > self.last_close).mean(axis=0).tolist()
        levels = [str(level) for level in self.quantiles]
        predictions = [
            {
                "step": step + 1,
                "target_date": target,
                **dict(zip(COLUMNS, means[step], strict=False)),
                "close_quantiles": dict(zip(levels, quantiles[step], strict=True)),
                "prob_up": prob_up[step],
            }
            for step, target in enumerate(self.targets)
        ]
        answer = {
            **self.head,
            "reconstruction": {"close": start.close, "factor": start.factor},
            "predictions": predictions,
            "warnings": [*self.warnings, *([] if start.warning is None else [start.warning])],
        }
        if self.events:
            answer["events"] = [
                asdict(chance) for chance in chances(self.events, values, self.last_close)
            ]
        if self.return_paths:
            answer["paths"] = values.tolist()
        return answer


class Forecaster:
    """One checkpoint and its engine, for requests and answers."""

    def __init__(self, checkpoint: Checkpoint, settings: Settings) -> None:
        self.model_name = checkpoint.name
        self.model_revision = checkpoint.revision
        self._max_context = checkpoint.max_context
        self._min_history = settings.min_history
        self._engine = Engine(checkpoint, threads=settings.threads, dtype=settings.dtype)

    @property
    def max_horizon(self) -> int:
        """Return the longest horizon that leaves the model its minimum of history."""
        return self._max_context - self._min_history

    def forecast(self, requests: Sequence[ForecastRequest]) -> list[dict[str, Any]]:
        """Return the answers to validated requests, in order. Raises InvalidHistory."""
        prepared = [self.prepare(request) for request in requests]
        paths = self.generate([item.prompt for item in prepared])
        return [item.answer(sampled) for item, sampled in zip(prepared, paths, strict=True)]

    def generate(self, prompts: Sequence[Prompt]) -> list[Paths]:
        """Return the engine's paths, one array per prompt. Call it in one thread only."""
        return self._engine.generate(prompts)

    def work(self, prompts: Sequence[Prompt]) -> Steps[list[Paths]]:
        """Run `generate` step by step."""
        return self._engine.work(prompts)

    def prepare(self, request: ForecastRequest) -> Prepared:
        """Prepare a request for the engine. Raises InvalidHistory, InvalidRequest."""
        history = history_from_rows(request.ohlcv)
        targets, warning = _targets(history, request)
        used = history.newest(self._context(request.horizon))
        bars, scale = normalise(used.values)
        stamps = time_features(np.concatenate([used.times.wall, targets.wall]))
        warnings = [] if warning is None else [warning]
        if len(bars) < len(request.ohlcv):
            warnings.append(
                f"only the newest {len(bars)} of {len(request.ohlcv)} bars were used: the model "
                f"sees {self._max_context} bars, the {request.horizon} of the forecast included"
            )
        if np.ptp(used.values[:, 3]) == 0:
            warnings.append("the closes never moved: prob_up only shows how the model rounds")
        warnings += candle_warnings(
            history,
            used=len(bars),
            interval=request.interval if "interval" in request.model_fields_set else None,
            targets=targets if request.target_timestamps is not None else None,
            now=np.datetime64(datetime.now(UTC).replace(tzinfo=None)),
        )
        seed = secrets.randbits(32) if request.seed is None else request.seed
        last_close = float(history.values[-1, 3])
        return Prepared(
            head={
                "symbol": request.symbol,
                "model": self.model_name,
                "model_revision": self.model_revision,
                "interval": request.interval,
                "as_of": history.times.newest(1).isoformat()[0],
                "last_close": last_close,
                "reconstruction": None,  # keeps the key's place; `answer` fills it in
                "samples": request.samples,
                "seed": seed,
            },
            last_close=last_close,
            targets=targets.isoformat(),
            quantiles=request.quantiles,
            return_paths=request.return_paths,
            events=_events(request, last_close),
            anchored=request.anchor == "last_close",
            warnings=warnings,
            prompt=Prompt(
                bars=bars,
                stamps=stamps,
                horizon=request.horizon,
                sampling=SamplingParams(
                    samples=request.samples,
                    temperature=request.temperature,
                    top_k=request.top_k,
                    top_p=request.top_p,
                ),
                seed=seed,
                model=self.model_name,
            ),
            scale=scale,
        )

    def _context(self, horizon: int) -> int:
        """Return how many bars of history fit together with the horizon."""
        context = self._max_context - horizon
        if context < self._min_history:
            raise InvalidHistory(
                f"horizon {horizon}: {self.model_name} sees {self._max_context} bars, forecast "
                f"included, and needs {self._min_history} of history; "
                f"expected at most {self.max_horizon}"
            )
        return context


def _events(request: ForecastRequest, last_close: float) -> tuple[Event, ...]:
    events = parse_events(request.events)
    for event in events:
        try:
            event.check(last_close)
        except ValueError as error:
            raise InvalidRequest(str(error), [("events", str(error))]) from None
    return events


def _targets(history: History, request: ForecastRequest) -> tuple[Times, str | None]:
    """Return the future timestamps: the caller's, or inferred ones, perhaps with a warning."""
    if request.target_timestamps is None:
        return inferred_times(history.times, request.horizon)
    targets = parse_times(request.target_timestamps, noun="target")
    if (targets.offset is None) != (history.times.offset is None):
        raise InvalidHistory("target_timestamps and the history: give both a zone, or neither")
    if targets.instant[0] <= history.times.instant[-1]:
        raise InvalidHistory(
            f"target 0: timestamp {request.target_timestamps[0]} is not after the history's end, "
            f"{request.ohlcv[-1]['timestamp']}"
        )
    return targets, None
