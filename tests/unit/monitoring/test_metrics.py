"""Metrics of the job's state: their values and their number; none contains a secret."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tradingbot.jobs.status import Model, Status, Ticker
from tradingbot.monitoring.metrics import metrics_text
from tradingbot.monitoring.snapshot import Record, Snapshot
from tradingbot.persistence.runs import Run

NIGHT = datetime(2024, 5, 15, 22, 5)
EPOCH = 1_715_810_700.0  # the same
DAY = 86_400.0


def run(state: Any = "ok", *, days: float = 0, shard: str = "0/1", **fields: Any) -> Run:
    """Return a run from `days` days before the newest."""
    given = {
        "seconds": None if state in ("running", "killed") else 40.0,
        "exit_code": {"ok": 0, "failed": 1}.get(state),
        "counts": {"active": 4, "stored": 3, "already_there": 0, "failed": 1, "rows": 15},
        "durations": {"wake": 30.0, "forecast": 8.0},
        **fields,
    }
    return Run(
        state, NIGHT - timedelta(days=days), model="mini", source="yahoo", shard=shard,
        message=None, **given,
    )  # fmt: skip


def status(*runs: Run, **fields: Any) -> Status:
    return Status(now=NIGHT, database="postgresql://db", clock=NIGHT, runs=list(runs), **fields)


def series(snapshot: Snapshot) -> dict[str, float]:
    """Return name{label="value"} -> value, without the prefix of all names."""
    text = metrics_text(snapshot, "1.2.3").decode()
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sample.labels.items())
            name = sample.name.removeprefix("kronosbot_")
            found[f"{name}{{{labels}}}" if labels else name] = sample.value
    return found


RUNS: dict[str, tuple[list[Run], dict[str, float]]] = {
    "one that went well": (
        [run()],
        {
            "last_run_timestamp_seconds": EPOCH, "last_success_timestamp_seconds": EPOCH + 40,
            "last_run_shards{status=ok}": 1, "last_run_shards{status=failed}": 0,
            "last_run_tickers{outcome=stored}": 3, "last_run_tickers{outcome=failed}": 1,
            "last_run_rows": 15, "last_run_duration_seconds": 40,
            "last_run_phase_duration_seconds{phase=wake}": 30, "running_runs": 0,
        },
    ),
    "none yet": (
        [],
        {
            "last_run_timestamp_seconds": 0, "last_success_timestamp_seconds": 0,
            "last_run_shards{status=ok}": 0, "last_run_shards{status=failed}": 0,
            "last_run_tickers{outcome=stored}": 0, "running_runs": 0,
        },
    ),
    "one that failed after one that went well": (
        [run("failed", error="HubRefused"), run(days=1)],
        {
            "last_run_timestamp_seconds": EPOCH, "last_success_timestamp_seconds": EPOCH - DAY + 40,
            "last_run_shards{status=ok}": 0, "last_run_shards{status=failed}": 1,
            "last_run_errors{error=HubRefused}": 1, "last_run_errors{error=other}": 0,
        },
    ),
    "a failure of an older version, which kept no kind": (
        [run("failed")], {"last_run_errors{error=other}": 1, "last_run_errors{error=HubError}": 0},
    ),
    "one at work after one that was killed": (
        [run("running"), run("killed", days=1), run(days=2)],
        {
            "last_run_timestamp_seconds": EPOCH, "running_runs": 1,
            "last_run_shards{status=killed}": 1, "last_run_shards{status=ok}": 0,
            "last_success_timestamp_seconds": EPOCH - 2 * DAY + 40,
        },
    ),
    "the first one, at work": (
        [run("running")],
        {
            "last_run_timestamp_seconds": EPOCH, "last_success_timestamp_seconds": 0,
            "running_runs": 1, "last_run_shards{status=ok}": 0,
        },
    ),
    "two shards, of which one failed, after a night of one": (
        [run(shard="0/2"), run("failed", days=0.5, shard="1/2", seconds=99.0),
         run(days=1, shard="1/2"), run(days=2)],
        {
            "last_run_timestamp_seconds": EPOCH - DAY / 2,
            "last_success_timestamp_seconds": EPOCH - DAY + 40,
            "last_run_shards{status=ok}": 1, "last_run_shards{status=failed}": 1,
            "last_run_tickers{outcome=stored}": 6, "last_run_duration_seconds": 99,
            "last_run_phase_duration_seconds{phase=wake}": 30,
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize(("runs", "expected"), RUNS.values(), ids=RUNS)
def test_the_newest_run_of_each_shard_is_reported(
    runs: list[Run], expected: dict[str, float]
) -> None:
    found = series(Snapshot(status=status(*runs)))
    assert {name: found.get(name) for name in expected} == expected


def test_tickers_are_fresh_behind_or_stale() -> None:
    tickers = [
        Ticker("A", NIGHT, 1, "1 session behind"), Ticker("B", NIGHT, 2, "2 sessions behind"),
        Ticker("C", None, None, "no forecast"),
    ]  # fmt: skip
    found = series(Snapshot(status=status(run(), active=9, stale=tickers, inactive=["OLD"])))
    states = {
        state: found[f"active_tickers{{state={state}}}"] for state in ("fresh", "behind", "stale")
    }
    assert states == {"fresh": 6, "behind": 1, "stale": 2}
    assert found["inactive_tickers"] == 1


def test_a_model_has_metrics_of_age_record_and_weights() -> None:
    model = Model("mini", "1d", NIGHT, 4, 4, shares={"kronos": 0.25, "ewma walk": 0.75})
    records = (
        Record("mini", "1d", "60", 84, {"random_walk": 0.1}, {"80": 0.79}),
        Record("mini", "1d", "all", 12),
    )
    made = {("mini", "1d"): NIGHT + timedelta(seconds=9)}
    found = series(
        Snapshot(status(run(), models=[model]), records=records, made=made, space_awake=True)
    )
    assert {name: value for name, value in found.items() if "mini" in name} == {
        "newest_forecast_timestamp_seconds{interval=1d,model=mini}": EPOCH + 9,
        "newest_forecast_as_of_timestamp_seconds{interval=1d,model=mini}": EPOCH,
        "combination_weight_ratio{forecaster=kronos,interval=1d,model=mini}": 0.25,
        "combination_weight_ratio{forecaster=ewma_walk,interval=1d,model=mini}": 0.75,
        "scored_forecasts{interval=1d,model=mini,window=60}": 84,
        "scored_forecasts{interval=1d,model=mini,window=all}": 12,
        "crps_skill_ratio{baseline=random_walk,interval=1d,model=mini,window=60}": 0.1,
        "band_coverage_ratio{band=80,interval=1d,model=mini,window=60}": 0.79,
    }
    assert found["space_awake"] == 1


def test_uncombined_bands_report_a_weight_of_kronos_alone() -> None:
    found = series(Snapshot(status(run(), models=[Model("mini", "1d", NIGHT, 4, 4)])))
    assert found["combination_weight_ratio{forecaster=kronos,interval=1d,model=mini}"] == 1


def test_the_only_metric_of_an_unreadable_database_is_up_0() -> None:
    secret = Snapshot(why="database postgresql://me:s3cret@db.example.org/kronos: refused")
    assert series(secret) == {"up": 0, "build_info{version=1.2.3}": 1}
    assert b"s3cret" not in metrics_text(secret, "1")
    assert b"db.example.org" not in metrics_text(secret, "1")


def test_the_number_of_series_is_independent_of_tickers_runs_and_shards() -> None:
    few = status(run(), active=1, stale=[Ticker("A0", None, None, "no forecast")])
    many = replace(
        few, runs=[run(days=n / 9, shard=f"{n}/50") for n in range(50)], active=1000,
        stale=[Ticker(f"A{n}", None, None, "no forecast") for n in range(500)],
        inactive=[f"B{n}" for n in range(500)],
    )  # fmt: skip
    assert series(Snapshot(many)).keys() == series(Snapshot(few)).keys()
    assert "A0" not in metrics_text(Snapshot(many), "1").decode()
