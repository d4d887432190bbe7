"""A night with several models: the champion's forecasts are served, and all of them are stored."""

import io
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from sqlalchemy import delete, select

from tests.support.checkpoints import NANO
from tests.support.hub import REPO, TOKEN, Hub
from tests.support.space_server import serving
from tradingbot.cli.check_output import check_document, show_check
from tradingbot.cli.run_document import document
from tradingbot.cli.run_output import lines_of
from tradingbot.data.service import DataService
from tradingbot.errors import ConfigError
from tradingbot.forecast import ANCHORED
from tradingbot.jobs.challengers import other_space
from tradingbot.jobs.check import check_candles
from tradingbot.jobs.database import JobDatabase
from tradingbot.jobs.nightly import JobOptions, NightlyJob
from tradingbot.jobs.sharding import WHOLE
from tradingbot.jobs.summary import Ending, RunSummary
from tradingbot.persistence.engine import get_db_session
from tradingbot.persistence.models import KronosForecast, KronosPrediction, RunLog
from tradingbot.postprocessing.bands import ALL_CLASSES
from tradingbot.postprocessing.combination import without_record
from tradingbot.postprocessing.combination_state import Rival
from tradingbot.postprocessing.combined_forecast import Combination
from tradingbot.postprocessing.experts import EXPERTS
from tradingbot.postprocessing.repository import load_combination, store_combination
from tradingbot.runtime.progress import ProgressReporter
from tradingbot.settings import Settings, Timeouts
from tradingbot.settings.models import parse_models
from tradingbot.space.address import SpaceAddress
from tradingbot.space.client import SpaceClient

SAMPLE = ("AAPL", "GOOG", "IBM", "MSFT")
QUICK = Timeouts(space_backoff=0.01, space_connect=1.0)


@pytest.fixture(scope="module")
def two_models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Space with kronos-nano, and with a copy of it under another name."""
    folder = tmp_path_factory.mktemp("challengers")
    shutil.copytree(NANO, folder / "tuned")
    about = json.loads((NANO / "kronos.json").read_text())
    (folder / "tuned" / "kronos.json").write_text(json.dumps(about | {"name": "me/tuned"}))
    models = f"kronos-nano,{folder / 'tuned'}"
    with serving(folder / "log", KRONOS_MODELS=models, KRONOS_API_KEY="") as server:
        yield server.url


class Job(NightlyJob):
    """The job on the sample, two bars ahead, with these models."""

    def __init__(
        self, url: str, database: str, models: str, timeouts: Timeouts = QUICK, **options: Any
    ) -> None:
        @contextmanager
        def opener(_lock: Any, _log: Any) -> Iterator[SpaceClient]:
            with SpaceClient(SpaceAddress(url, timeouts=timeouts)) as client:
                yield client

        settings = Settings(
            data_source="sample",
            horizon=2,
            samples=4,
            timeouts=timeouts,
            wake_timeout=1.0,
            models=parse_models(models),
        )
        reporter, place = ProgressReporter(), JobDatabase(database)
        super().__init__(
            settings,
            JobOptions(symbols=SAMPLE, **options),
            place,
            DataService("sample"),
            opener,
            reporter,
            lambda asked, log: other_space(asked, log, settings, place, WHOLE, reporter),
        )

    def night(self) -> RunSummary:
        return self.summary(self.run())


def test_a_check_tests_each_model_and_wakes_no_space(
    two_models: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = "http://127.0.0.1:9"
    with Hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        asked = f"kronos-nano,tuned,base={nowhere},mini={two_models},paused={REPO}"
        settings = Settings.from_env(
            {"KRONOS_SPACE_URL": two_models, "KRONOS_MODELS": asked, "HF_TOKEN": TOKEN,
             "KRONOS_DATA_SOURCE": "sample", "KRONOS_EXTRA_SYMBOLS": "IBM"}
        )  # fmt: skip
        found = check_candles(replace(settings, timeouts=QUICK), ["IBM"], interval="1d", bars=40)
        assert not hub.running
    nano, tuned, base, mini, paused = found.models
    assert (nano.role, nano.verdict, nano.served_as) == ("champion", "ok", "kronos-nano")
    assert (tuned.role, tuned.verdict, tuned.served_as) == ("challenger", "ok", "me/tuned")
    assert tuned.revision is not None
    assert tuned.revision.startswith("sha256:")
    assert (base.verdict, base.space) == ("failed", nowhere)
    assert f"{nowhere}" in str(base.note)
    assert mini.note == (
        f"KRONOS_MODELS: 'mini': the Space at {two_models} does not serve this model; "
        "it serves kronos-nano, me/tuned"
    )
    assert (paused.verdict, paused.note) == ("asleep", "its Space is PAUSED; a run wakes it")
    assert found.exit_code == 1
    assert replace(found, models=[nano, tuned, paused]).exit_code == 0
    out = io.StringIO()
    show_check(found, Console(file=out, width=200))
    assert "failed    mini: KRONOS_MODELS: 'mini': the Space at" in out.getvalue()
    assert check_document(found)["models"][1]["revision"] == tuned.revision


def served(url: str) -> set[str]:
    with get_db_session(url) as session:
        return {*session.scalars(select(KronosPrediction.model_name))}


def ledger(url: str) -> dict[tuple[str, bool], int]:
    """Return the number of rows by model and by whether it was a challenger."""
    with get_db_session(url) as session:
        rows = session.execute(select(KronosForecast.model_name, KronosForecast.challenger)).all()
    keys = [(model, challenger) for model, challenger in rows]
    return {key: keys.count(key) for key in keys}


def test_the_first_model_is_served_and_the_others_are_only_stored(
    two_models: str, database: str
) -> None:
    done = Job(two_models, database, "kronos-nano,tuned").night()
    assert (done.ending.exit_code, done.rows, done.model) == (0, 8, "kronos-nano")
    assert served(database) == {"kronos-nano"}
    assert ledger(database) == {("kronos-nano", False): 8, ("me/tuned", True): 8}
    [line] = [line for line in lines_of(done) if line.startswith("Beside")]
    assert line == "Beside   tuned: 4 of 4 tickers in the ledger, in shadow"
    with get_db_session(database) as session:
        [run] = session.scalars(select(RunLog)).all()
    assert document(done)["challengers"] == run.details["challengers"] == [
        {"name": "tuned", "stored": 4, "already_there": 0, "tickers": 4, "beside": False,
         "failure": None},
    ]  # fmt: skip

    again = Job(two_models, database, "kronos-nano,tuned").night()
    assert (len(again.already_stored), again.challengers[0].already_there, again.rows) == (4, 4, 0)
    assert ledger(database) == {("kronos-nano", False): 8, ("me/tuned", True): 8}


def test_a_challenger_that_becomes_the_champion_is_served_the_same_night(
    two_models: str, sqlite_url: str
) -> None:
    Job(two_models, sqlite_url, "kronos-nano,tuned").night()
    done = Job(two_models, sqlite_url, "me/tuned,kronos-nano").night()
    assert (done.model, len(done.made), done.challengers[0].already_there) == ("me/tuned", 4, 4)
    assert served(sqlite_url) == {"kronos-nano", "me/tuned"}


def test_the_next_run_adds_a_challengers_missing_forecasts_after_a_crash(
    two_models: str, sqlite_url: str
) -> None:
    Job(two_models, sqlite_url, "kronos-nano,tuned").night()
    with get_db_session(sqlite_url) as session:
        here = KronosForecast.symbol == "IBM", KronosForecast.challenger
        session.execute(delete(KronosForecast).where(*here))
    done = Job(two_models, sqlite_url, "kronos-nano,tuned").night()
    [challenger] = done.challengers
    assert (challenger.stored, challenger.already_there, done.rows) == (1, 3, 0)


def test_the_model_option_runs_only_that_model(two_models: str, sqlite_url: str) -> None:
    done = Job(two_models, sqlite_url, "kronos-nano,tuned", model="me/tuned").night()
    assert (done.model, done.challengers, served(sqlite_url)) == ("me/tuned", (), {"me/tuned"})


@pytest.mark.parametrize(
    ("models", "reason"),
    [
        (
            "kronos-nano,kronos-base",
            "'kronos-base': the Space at {url} does not serve this model; "
            "it serves kronos-nano, me/tuned",
        ),
        ("kronos-nano,x=http://127.0.0.1:9", "http://127.0.0.1:9 was not ready within 1 s"),
        (
            "kronos-nano,x={url}",
            "'x': the Space at {url} does not serve this model; it serves kronos-nano, me/tuned",
        ),
    ],
)
def test_an_unavailable_challenger_is_left_out_alone(
    two_models: str, sqlite_url: str, models: str, reason: str
) -> None:
    models, reason = (text.format(url=two_models) for text in (models, reason))
    done = Job(two_models, sqlite_url, f"{models},tuned").night()
    assert (done.ending.exit_code, done.rows) == (0, 8)
    lost, kept = done.challengers
    assert lost.failure is not None
    assert reason in lost.failure
    assert "\n" not in lost.failure
    assert (lost.stored, kept.stored, kept.failure) == (0, 4, None)
    assert ledger(sqlite_url) == {("kronos-nano", False): 8, ("me/tuned", True): 8}


def test_a_challenger_in_another_space_is_requested_there(
    two_models: str, space_url: str, sqlite_url: str
) -> None:
    done = Job(two_models, sqlite_url, f"tuned,kronos-nano={space_url}").night()
    assert (done.model, done.challengers[0].stored) == ("me/tuned", 4)
    assert ledger(sqlite_url) == {("me/tuned", False): 8, ("kronos-nano", True): 8}


def test_a_champion_missing_from_the_space_ends_the_run_in_one_line(
    two_models: str, sqlite_url: str
) -> None:
    unserved = r"KRONOS_MODELS: 'mini': the Space at .* does not serve this model; it serves kron"
    with pytest.raises(ConfigError, match=unserved):
        Job(two_models, sqlite_url, "mini,kronos-nano").run()


def test_a_hanging_challenger_is_given_up_at_its_time_limit(
    two_models: str, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real: Callable[..., Any] = SpaceClient.forecast_batches
    over = threading.Event()

    def hangs_for_challengers(client: SpaceClient, requests: Any) -> Any:
        if threading.current_thread() is not threading.main_thread():
            over.wait(60)
        return real(client, requests)

    monkeypatch.setattr(SpaceClient, "forecast_batches", hangs_for_challengers)
    job = Job(two_models, sqlite_url, "kronos-nano,tuned", replace(QUICK, challenger=0.3))
    done = job.night()
    over.set()
    assert (done.ending.exit_code, done.rows) == (0, 8)
    assert "took more than its" in str(done.challengers[0].failure)


@pytest.mark.parametrize("trouble", ["", "asleep", "a bug"])
def test_a_challenger_with_a_share_forecasts_with_the_champion_and_changes_the_served_forecast(
    two_models: str, sqlite_url: str, trouble: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if trouble == "a bug":
        real: Callable[..., Any] = SpaceClient.forecast_batches

        def fails_for_challengers(client: SpaceClient, requests: Any) -> Any:
            if threading.current_thread() is not threading.main_thread():
                raise TypeError("a bug")
            return real(client, requests)

        monkeypatch.setattr(SpaceClient, "forecast_batches", fails_for_challengers)
    with SpaceClient(SpaceAddress(two_models)) as client:
        revision = client.health()["model_revision"] + ANCHORED
    until = np.datetime64(DataService("sample").now() - timedelta(days=400), "s")
    earned = replace(
        without_record(len(EXPERTS)).with_challengers(["me/tuned"]),
        gains=(0.0, 0.0, 0.0, 0.0, 2.0),
        rivals=(Rival("me/tuned"),),
        trials=(),
        sessions=100,
        forecasts=400,
        until=until,
    )
    pools = {(ALL_CLASSES, step): earned for step in (1, 2)}
    with get_db_session(sqlite_url) as session:
        store_combination(session, Combination(("kronos-nano", revision, "1d"), pools))
    models = "kronos-nano,tuned=http://127.0.0.1:9" if trouble == "asleep" else "kronos-nano,tuned"
    done = Job(two_models, sqlite_url, models).night()
    [challenger] = done.challengers
    assert challenger.beside
    for forecast in done.forecasts.values():
        assert forecast.shares is not None
        assert sum(forecast.shares.values()) == pytest.approx(1)
        tuned = np.exp(2) / (4 + np.exp(2))
        assert forecast.shares["me/tuned"] == pytest.approx(0 if trouble else tuned)
        assert forecast.shares["kronos"] == pytest.approx(1 / 4 if trouble else (1 - tuned) / 4)
    assert (challenger.stored, challenger.failure is None) == ((0, False) if trouble else (4, True))
    with get_db_session(sqlite_url) as session:
        kept = load_combination(session, ("kronos-nano", revision, "1d"))
    assert kept is not None
    assert kept.rivals == {"me/tuned"}
    assert done.ending == Ending()
