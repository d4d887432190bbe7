"""A real Prometheus scrapes the real exporter after three nights: no dashboard panel is empty."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.support import ROOT, commands
from tests.support.nights import three_nights
from tests.support.prometheus import Prometheus, check_metrics, running_prometheus
from tests.support.space_server import serving

DASHBOARD = json.loads((ROOT / "helm/tradingbots/files/dashboard.json").read_text())
QUERIES = [
    (panel["title"], target["expr"]) for panel in DASHBOARD["panels"] for target in panel["targets"]
]
KEY = "k3y-of-space"


@pytest.fixture(scope="module")
def exporter_url(tmp_path_factory: pytest.TempPathFactory, space_url: str) -> Iterator[str]:
    """The URL of the exporter, started as the chart does, on a database of three nights."""
    folder = tmp_path_factory.mktemp("nights")
    database = f"sqlite:///{folder / 'kronos.db'}"
    three_nights(folder, space_url=space_url, database=database)
    process = commands.piped(
        "tradingbot.kronosbot", "exporter", "--port", "0", cwd=folder,
        env={**os.environ, "DATABASE_URL": database},
    )  # fmt: skip
    output = process.stderr.readline()
    found = re.search(r"Metrics on (http://127\.0\.0\.1:\d+)/metrics", output)
    assert found, output
    yield found[1]
    process.terminate()
    _, rest = process.communicate(timeout=60)
    assert (process.returncode, rest.strip()) == (143, "Stopped by SIGTERM")


@pytest.fixture(scope="module")
def prometheus(exporter_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A Prometheus that scrapes the exporter, and a Space with an API key."""
    log = tmp_path_factory.mktemp("space") / "server.log"
    with serving(log, KRONOS_API_KEY=KEY) as space:
        jobs = [
            {"job_name": "kronosbot", "static_configs": [{"targets": [host(exporter_url)]}]},
            {"job_name": "kronos-space", "static_configs": [{"targets": [host(space.url)]}],
             "authorization": {"credentials": KEY}},
        ]  # fmt: skip
        with running_prometheus(jobs) as server:
            server.wait_for("count(up == 1) == 2")
            yield server


def host(url: str) -> str:
    return url.removeprefix("http://")


def test_promtool_accepts_the_metrics(exporter_url: str) -> None:
    answer = requests.get(f"{exporter_url}/metrics", timeout=20)
    assert answer.ok
    check_metrics(answer.text)
    for symbol in ("AAPL", "GOOG", "IBM", "MSFT"):
        assert symbol not in answer.text
    assert requests.get(f"{exporter_url}/healthz", timeout=20).text == "ok\n"


@pytest.mark.parametrize(("title", "query"), QUERIES)
def test_no_panel_is_empty_after_three_nights(
    title: str, query: str, prometheus: Prometheus
) -> None:
    assert prometheus.query(query), f"{title}: {query}"


def test_prometheus_stores_the_figures_of_each_night(prometheus: Prometheus) -> None:
    def value(query: str) -> float:
        [series] = prometheus.query(query)
        return float(series["value"][1])

    assert value("kronosbot_up") == 1
    assert value('kronosbot_last_run_tickers{outcome="stored"}') == 4
    assert value("kronosbot_last_run_rows") == 4 * 6
    assert value('kronosbot_scored_forecasts{window="all"}') == 4 * (8 + 7 + 6)
    assert value('kronosbot_last_run_shards{status="ok"}') == 1
    assert value("count(kronosbot_last_run_phase_duration_seconds)") == 6
    prometheus.wait_for('kronos_http_requests_total{route="/metrics",status="200"}')


@pytest.fixture
def gone(tmp_path: Path) -> Iterator[str]:
    """An exporter whose database is unavailable."""
    database = "postgresql://me:s3cret@127.0.0.1:9/kronos"
    process = commands.piped(
        "tradingbot.kronosbot", "exporter", "--port", "0", cwd=tmp_path,
        env={**os.environ, "DATABASE_URL": database},
    )  # fmt: skip
    output = process.stderr.readline()
    yield output.split()[2].rstrip(";")
    process.kill()
    process.communicate(timeout=60)


def test_a_database_out_of_reach_is_reported_as_up_0(gone: str) -> None:
    text = requests.get(gone, timeout=20).text
    assert "\nkronosbot_up 0.0\n" in text
    assert not re.search("s3cret|127.0.0.1|postgres", text)
