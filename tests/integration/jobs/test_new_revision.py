"""When the weights of a model change between two nights, the new revision starts a new record."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file, save_file
from sqlalchemy import select

from tests.support.checkpoints import NANO
from tests.support.space_server import serving
from tradingbot.data.service import DataService
from tradingbot.forecast import ANCHORED
from tradingbot.jobs.database import JobDatabase
from tradingbot.jobs.nightly import JobOptions, NightlyJob
from tradingbot.jobs.summary import RunSummary
from tradingbot.persistence.engine import get_db_session
from tradingbot.persistence.models import KronosCalibration, KronosForecast
from tradingbot.postprocessing.bands import ALL_CLASSES
from tradingbot.postprocessing.combination import without_record
from tradingbot.postprocessing.combined_forecast import Combination
from tradingbot.postprocessing.experts import EXPERTS
from tradingbot.postprocessing.repository import load_combination, store_combination
from tradingbot.runtime.progress import ProgressReporter
from tradingbot.settings import Settings, Timeouts
from tradingbot.space.address import SpaceAddress
from tradingbot.space.client import SpaceClient

QUICK = Timeouts(space_backoff=0.01, space_connect=1.0)


def checkpoint(folder: Path, *, times: float) -> Path:
    """Write kronos-nano under another name, with its first head's weights multiplied."""
    shutil.copytree(NANO, folder)
    file = folder / "model" / "model.safetensors"
    weights = load_file(file)
    save_file(weights | {"head.proj_s1.weight": weights["head.proj_s1.weight"] * times}, file)
    about = json.loads((NANO / "kronos.json").read_text())
    (folder / "kronos.json").write_text(json.dumps(about | {"name": "me/own"}))
    return folder


def revision_at(url: str) -> str:
    with SpaceClient(SpaceAddress(url)) as client:
        return str(client.health()["model_revision"]) + ANCHORED


def night(url: str, database: str, *, bars_left: int) -> RunSummary:
    """Run the job as of the session with `later` sessions after it in the sample."""

    @contextmanager
    def opener(_lock: Any, _log: Any) -> Iterator[SpaceClient]:
        with SpaceClient(SpaceAddress(url, timeouts=QUICK)) as client:
            yield client

    settings = Settings(data_source="sample", horizon=2, samples=20, timeouts=QUICK)
    job = NightlyJob(
        settings,
        JobOptions(),
        JobDatabase(database),
        DataService("sample", horizon=bars_left),
        opener,
        ProgressReporter(),
    )
    return job.summary(job.run())


@pytest.mark.slow
def test_a_new_revision_inherits_combination_weights_but_its_own_bands_start_raw(
    tmp_path: Path, sqlite_url: str
) -> None:
    places = [checkpoint(tmp_path / name, times=by) for name, by in (("a", 1.0), ("b", 0.9))]
    until = np.datetime64(DataService("sample").now() - timedelta(days=400), "s")
    known = replace(
        without_record(len(EXPERTS)),
        gains=(2.0, 0.0, 1.0, 0.0),
        sessions=100,
        forecasts=400,
        until=until,
    )
    pools = {(ALL_CLASSES, step): known for step in (1, 2)}
    with serving(tmp_path / "one", KRONOS_MODEL=str(places[0]), KRONOS_API_KEY="") as server:
        first = revision_at(server.url)
        with get_db_session(sqlite_url) as session:
            store_combination(session, Combination(("me/own", first, "1d"), pools))
        before = night(server.url, sqlite_url, bars_left=8)
    with serving(tmp_path / "two", KRONOS_MODEL=str(places[1]), KRONOS_API_KEY="") as server:
        second = revision_at(server.url)
        nights = [night(server.url, sqlite_url, bars_left=left) for left in (7, 6)]

    assert first != second
    share = known.weights[0]
    assert {forecast.model_revision for forecast in before.forecasts.values()} == {first}
    assert all(item.calibration.startswith("combined") for item in before.forecasts.values())
    for done in nights:
        assert done.ending.exit_code == 0
        assert {forecast.model_revision for forecast in done.forecasts.values()} == {second}
        for forecast in done.forecasts.values():
            assert forecast.calibration.startswith("combined")
            assert forecast.kronos_share == pytest.approx(share)
            alone = forecast.uncombined()
            assert (alone.calibration, alone.kronos_share) == ("raw", 1.0)
    with get_db_session(sqlite_url) as session:
        kept = session.scalars(
            select(KronosForecast).where(KronosForecast.model_revision == second)
        ).all()
        assert kept
        assert all(row.calibrated_quantiles is None for row in kept)
        assert not session.scalars(
            select(KronosCalibration).where(KronosCalibration.model_revision == second)
        ).all()
        old = load_combination(session, ("me/own", first, "1d"))
        new = load_combination(session, ("me/own", second, "1d"))
    assert old is not None
    assert new is not None
    for pool in pools:
        assert old.pools[pool].gains == pytest.approx(known.gains)
        assert new.pools[pool].weights == pytest.approx(known.weights)
