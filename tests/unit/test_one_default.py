"""The sampling defaults are the same wherever a default exists."""

import json
import re

import pandas as pd

from kronos_space.engine.sampling import SamplingParams
from kronos_space.schemas import ForecastRequest
from kronos_space.server.openapi import FORECAST
from tests.support import ROOT
from tradingbot.settings import TEMPERATURE, TOP_P, Settings
from tradingbot.space.wire import prepare

MEASURED = (50, 1.0, 1.0)  # paths, temperature, top_p: docs/concepts/settings.md


def test_service_engine_job_and_client_have_the_same_sampling_defaults() -> None:
    fields = ForecastRequest.model_fields
    engine = SamplingParams()
    assert tuple(fields[name].default for name in ("samples", "temperature", "top_p")) == MEASURED
    assert (engine.samples, engine.temperature, engine.top_p) == MEASURED
    assert (Settings().samples, TEMPERATURE, TOP_P) == MEASURED


def test_the_jobs_sampling_options_equal_the_services_defaults() -> None:
    days = pd.date_range("2024-01-01", periods=40, freq="B")
    bars = pd.DataFrame(
        dict.fromkeys(("open", "high", "low", "close", "volume"), 100.0), index=days
    )
    sent = json.loads(
        prepare("SPY", bars, horizon=1, interval="1d", samples=Settings().samples).body
    )
    left_out = ForecastRequest(symbol="SPY", ohlcv=sent["ohlcv"])
    for name in ("samples", "temperature", "top_p"):
        assert sent[name] == getattr(left_out, name)


def test_the_pages_form_and_the_examples_have_the_same_default() -> None:
    page = (ROOT / "kronos_space/static/index.html").read_text()
    [paths] = re.findall(r'id="paths"[^>]*value="(\d+)"', page)
    assert int(paths) == MEASURED[0] == FORECAST["samples"]
    script = (ROOT / "kronos_space/static/page.js").read_text()
    assert "top_p: config.topP," in script  # the service's, filled in by server/pages.py
    example = json.loads((ROOT / "examples/request.json").read_text())
    assert not {"samples", "top_p", "temperature"} & example.keys()
    shown = re.findall(r'"samples":(\d+)', (ROOT / "README.md").read_text())
    assert set(map(int, shown)) == {MEASURED[0]}
