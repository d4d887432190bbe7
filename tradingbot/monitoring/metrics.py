"""Prometheus metrics from a snapshot of the database.

All metrics are gauges, because every scrape reads their values from the database. No metric has a
label for a single ticker. The labels have few values: phases, outcomes, error types, and the models
with forecasts.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from tradingbot.combination_shares import KRONOS
from tradingbot.jobs.status import Status, Ticker
from tradingbot.monitoring.snapshot import MAX_AGE, Snapshot
from tradingbot.persistence.runs import Run, newest_by_shard

OUTCOMES = ("stored", "already_there", "failed")
STATES = ("ok", "failed", "killed")
# Errors that end a run as a whole. Any other error type counts as "other".
ERRORS = (
    "ConfigError",
    "DatabaseError",
    "DatabaseUnavailable",
    "HubError",
    "HubRefused",
    "RunOvertaken",
    "SpaceError",
    "SpaceRejected",
    "SpaceUnavailable",
    "Stopped",
    "TooFewForecasts",
    "other",
)

Series = Iterable[tuple[tuple[str, ...], float]]


def metrics_text(snapshot: Snapshot, version: str) -> bytes:
    """Return one snapshot in Prometheus's text format."""
    registry = CollectorRegistry()
    registry.register(Fixed(families(snapshot, version)))
    return generate_latest(registry)


class Fixed(Collector):
    """A collector that returns metric families that are already computed."""

    def __init__(self, given: Iterable[GaugeMetricFamily]) -> None:
        self._families = list(given)

    def collect(self) -> Iterable[GaugeMetricFamily]:
        return self._families


def families(snapshot: Snapshot, version: str) -> Iterator[GaugeMetricFamily]:
    """Yield all metrics. If the database cannot be read, yield only `up` and `build_info`."""
    yield _gauge("up", "Whether the database could be read.", snapshot.status is not None)
    info = "Version of the exporter."
    yield _labelled("build_info", info, ["version"], [((version,), 1.0)])
    if snapshot.status is None:
        return
    yield _gauge("read_duration_seconds", "Time taken to read the database.", snapshot.seconds)
    yield from _of_runs(snapshot.status.runs)
    yield from _of_tickers(snapshot.status)
    yield from _of_models(snapshot)
    yield _gauge(
        "space_awake",
        "Whether a run woke the Space and no run has paused it since.",
        snapshot.space_awake,
    )


def _of_runs(runs: list[Run]) -> Iterator[GaugeMetricFamily]:
    begun, last = newest_by_shard(runs, running=True), newest_by_shard(runs)
    ended = list(last.values())
    yield _gauge(
        "last_run_timestamp_seconds",
        "Start of the newest run. With several shards, the oldest of their newest. 0: never.",
        min((_seconds(run.started_at) for run in begun.values()), default=0.0),
    )
    yield _gauge(
        "last_success_timestamp_seconds",
        "End of the newest successful run. With several shards, the oldest. 0: none.",
        min((_success(runs, shard) for shard in begun), default=0.0),
    )
    running = sum(run.state == "running" for run in runs)
    yield _gauge("running_runs", "Runs in progress.", running)
    states = Counter(str(run.state) for run in ended)
    yield _labelled(
        "last_run_shards",
        "Newest finished run of each shard, by status.",
        ["status"],
        (((state,), states[state]) for state in STATES),
    )
    errors = Counter(_error(run) for run in ended if run.state == "failed")
    yield _labelled(
        "last_run_errors",
        "Newest run of each shard that failed, by error type.",
        ["error"],
        (((error,), errors[error]) for error in ERRORS),
    )
    counts: Counter[str] = Counter()
    for run in ended:
        counts.update(run.counts)
    yield _labelled(
        "last_run_tickers",
        "Tickers of the newest run, by outcome.",
        ["outcome"],
        (((outcome,), counts[outcome]) for outcome in OUTCOMES),
    )
    yield _gauge("last_run_rows", "Forecast bars that the newest run stored.", counts["rows"])
    yield _gauge(
        "last_run_duration_seconds",
        "Duration of the newest run. With several shards, the longest.",
        max((run.seconds for run in ended if run.seconds is not None), default=0.0),
    )
    phases: dict[str, float] = {}
    for run in ended:
        for phase, took in run.durations.items():
            phases[phase] = max(took, phases.get(phase, 0.0))
    yield _labelled(
        "last_run_phase_duration_seconds",
        "Duration of each phase of the newest run. With several shards, the longest.",
        ["phase"],
        (((phase,), took) for phase, took in sorted(phases.items())),
    )


def _of_tickers(status: Status) -> Iterator[GaugeMetricFamily]:
    stale = sum(_is_stale(ticker) for ticker in status.stale)
    behind = len(status.stale) - stale
    states = {"fresh": status.active - len(status.stale), "behind": behind, "stale": stale}
    yield _labelled(
        "active_tickers",
        "Active tickers: fresh, behind (by one session), or stale.",
        ["state"],
        (((state,), number) for state, number in states.items()),
    )
    yield _gauge(
        "inactive_tickers", "Tickers with a forecast that belong to no bot.", len(status.inactive)
    )


def _of_models(snapshot: Snapshot) -> Iterator[GaugeMetricFamily]:
    assert snapshot.status is not None
    models = snapshot.status.models
    key = ["model", "interval"]
    yield _labelled(
        "newest_forecast_timestamp_seconds",
        "Time of the model's newest forecast.",
        key,
        ((model, _seconds(made)) for model, made in sorted(snapshot.made.items())),
    )
    yield _labelled(
        "newest_forecast_as_of_timestamp_seconds",
        "Newest bar used by a forecast of the model.",
        key,
        (((model.name, model.interval), _seconds(model.as_of)) for model in models if model.as_of),
    )
    yield _labelled(
        "combination_weight_ratio",
        "Weight of each forecaster in the served bands.",
        [*key, "forecaster"],
        (
            ((model.name, model.interval, forecaster.replace(" ", "_")), share)
            for model in models
            for forecaster, share in (model.shares or {KRONOS: 1.0}).items()
        ),
    )
    key = [*key, "window"]
    records = {
        (record.model, record.interval, record.window): record for record in snapshot.records
    }
    yield _labelled(
        "scored_forecasts",
        "Forecasts with an outcome, in the newest sessions records the window.",
        key,
        ((labels, record.forecasts) for labels, record in records.items()),
    )
    yield _labelled(
        "crps_skill_ratio",
        "CRPS skill over a baseline. Above 0 is better than the baseline.",
        [*key, "baseline"],
        (
            ((*labels, name), skill)
            for labels, record in records.items()
            for name, skill in record.skill.items()
        ),
    )
    yield _labelled(
        "band_coverage_ratio",
        "Share of closes inside a band. The label is the band's nominal level in percent.",
        [*key, "band"],
        (
            ((*labels, band), held)
            for labels, record in records.items()
            for band, held in record.coverage.items()
        ),
    )


def _success(runs: list[Run], shard: str) -> float:
    ended = (
        _seconds(run.started_at) + (run.seconds or 0.0)
        for run in runs
        if run.shard == shard and run.state == "ok"
    )
    return next(ended, 0.0)


def _error(run: Run) -> str:
    return run.error if run.error in ERRORS else "other"


def _is_stale(ticker: Ticker) -> bool:
    return ticker.behind is None or ticker.behind > MAX_AGE


def _seconds(moment: datetime) -> float:
    return moment.replace(tzinfo=UTC).timestamp()


def _gauge(name: str, help_: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"kronosbot_{name}", help_, value=float(value))


def _labelled(name: str, help_: str, labels: list[str], series: Series) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"kronosbot_{name}", help_, labels=labels)
    for values, value in series:
        family.add_metric(list(values), float(value))
    return family
