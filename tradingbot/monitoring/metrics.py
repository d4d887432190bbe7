"""A snapshot as metrics of Prometheus.

All are gauges, since each scrape reads them from the database. No series is of a single ticker, and
the labels take few values: phases, outcomes, kinds of errors, and the models that have forecast.
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
# The kinds of what ends a run as a whole; what is none of them counts as "other".
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
    """The exposition format of one snapshot."""
    registry = CollectorRegistry()
    registry.register(Fixed(families(snapshot, version)))
    return generate_latest(registry)


class Fixed(Collector):
    """Families that are there already."""

    def __init__(self, given: Iterable[GaugeMetricFamily]) -> None:
        self._families = list(given)

    def collect(self) -> Iterable[GaugeMetricFamily]:
        return self._families


def families(snapshot: Snapshot, version: str) -> Iterator[GaugeMetricFamily]:
    """Every metric; of a database that cannot be read, only that this is so."""
    yield _gauge("up", "Whether the database could be read.", snapshot.status is not None)
    info = "The version that reads it."
    yield _labelled("build_info", info, ["version"], [((version,), 1.0)])
    if snapshot.status is None:
        return
    yield _gauge("read_duration_seconds", "What reading the database took.", snapshot.seconds)
    yield from _of_runs(snapshot.status.runs)
    yield from _of_tickers(snapshot.status)
    yield from _of_models(snapshot)
    yield _gauge(
        "space_awake",
        "Whether the last thing that a run did with the Space was to wake it.",
        snapshot.space_awake,
    )


def _of_runs(runs: list[Run]) -> Iterator[GaugeMetricFamily]:
    begun, last = newest_by_shard(runs, running=True), newest_by_shard(runs)
    ended = list(last.values())
    yield _gauge(
        "last_run_timestamp_seconds",
        "When the newest run began; of several shards, that of the oldest. 0: never.",
        min((_seconds(run.started_at) for run in begun.values()), default=0.0),
    )
    yield _gauge(
        "last_success_timestamp_seconds",
        "When the newest run that went well ended; of several shards, the oldest. 0: none has.",
        min((_success(runs, shard) for shard in begun), default=0.0),
    )
    running = sum(run.state == "running" for run in runs)
    yield _gauge("running_runs", "Runs that are at work.", running)
    states = Counter(str(run.state) for run in ended)
    yield _labelled(
        "last_run_shards",
        "The newest run of each shard that has ended, by how.",
        ["status"],
        (((state,), states[state]) for state in STATES),
    )
    errors = Counter(_error(run) for run in ended if run.state == "failed")
    yield _labelled(
        "last_run_errors",
        "The newest run of each shard that failed, by the kind of error.",
        ["error"],
        (((error,), errors[error]) for error in ERRORS),
    )
    counts: Counter[str] = Counter()
    for run in ended:
        counts.update(run.counts)
    yield _labelled(
        "last_run_tickers",
        "Tickers of the newest run, by what became of them.",
        ["outcome"],
        (((outcome,), counts[outcome]) for outcome in OUTCOMES),
    )
    yield _gauge("last_run_rows", "Forecast bars that the newest run stored.", counts["rows"])
    yield _gauge(
        "last_run_duration_seconds",
        "What the newest run took; of several shards, the longest.",
        max((run.seconds for run in ended if run.seconds is not None), default=0.0),
    )
    phases: dict[str, float] = {}
    for run in ended:
        for phase, took in run.durations.items():
            phases[phase] = max(took, phases.get(phase, 0.0))
    yield _labelled(
        "last_run_phase_duration_seconds",
        "What each phase of the newest run took; of several shards, the longest.",
        ["phase"],
        (((phase,), took) for phase, took in sorted(phases.items())),
    )


def _of_tickers(status: Status) -> Iterator[GaugeMetricFamily]:
    stale = sum(_is_stale(ticker) for ticker in status.stale)
    behind = len(status.stale) - stale
    states = {"fresh": status.active - len(status.stale), "behind": behind, "stale": stale}
    yield _labelled(
        "active_tickers",
        "Active tickers: fresh, behind (one session, as between a close and the run), or stale.",
        ["state"],
        (((state,), number) for state, number in states.items()),
    )
    yield _gauge(
        "inactive_tickers", "Tickers with a forecast that no bot has.", len(status.inactive)
    )


def _of_models(snapshot: Snapshot) -> Iterator[GaugeMetricFamily]:
    assert snapshot.status is not None
    models = snapshot.status.models
    key = ["model", "interval"]
    yield _labelled(
        "newest_forecast_timestamp_seconds",
        "When the model's newest forecast was made.",
        key,
        ((one, _seconds(made)) for one, made in sorted(snapshot.made.items())),
    )
    yield _labelled(
        "newest_forecast_as_of_timestamp_seconds",
        "The newest bar that a forecast of the model was made from.",
        key,
        (((one.name, one.interval), _seconds(one.as_of)) for one in models if one.as_of),
    )
    yield _labelled(
        "combination_weight_ratio",
        "Share of each forecaster in the bands that are served.",
        [*key, "forecaster"],
        (
            ((one.name, one.interval, forecaster.replace(" ", "_")), share)
            for one in models
            for forecaster, share in (one.shares or {KRONOS: 1.0}).items()
        ),
    )
    key = [*key, "window"]
    of = {(one.model, one.interval, one.window): one for one in snapshot.records}
    yield _labelled(
        "scored_forecasts",
        "Forecasts with an outcome, within so many newest sessions.",
        key,
        ((labels, one.forecasts) for labels, one in of.items()),
    )
    yield _labelled(
        "crps_skill_ratio",
        "CRPS skill over a baseline; above 0 is better than it.",
        [*key, "baseline"],
        (
            ((*labels, name), skill)
            for labels, one in of.items()
            for name, skill in one.skill.items()
        ),
    )
    yield _labelled(
        "band_coverage_ratio",
        "Share of the closes inside a band, which is named by the share that should be.",
        [*key, "band"],
        (
            ((*labels, band), held)
            for labels, one in of.items()
            for band, held in one.coverage.items()
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
