"""Greedy forecasts equal those of the reference implementation (tests/data/parity)."""

import json
from pathlib import Path

import numpy as np
import pytest

from kronos_space.forecasting.candles import COLUMNS
from kronos_space.forecasting.forecaster import Forecaster
from kronos_space.schemas import ForecastRequest
from kronos_space.settings import Settings
from kronos_space.weights.checkpoint import load_checkpoint
from tests.support import DATA
from tests.support.checkpoints import NANO, write_checkpoint

CASES = sorted((DATA / "parity").glob("*.json"))


@pytest.fixture(scope="module")
def forecasters(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Forecaster]:
    mini = write_checkpoint(tmp_path_factory.mktemp("mini"))
    return {
        weights: Forecaster(load_checkpoint(str(folder)), Settings())
        for weights, folder in (("mini", mini), ("kronos-nano", NANO))
    }


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_greedy_tokens_equal_the_references_and_values_lie_within_the_bound(
    forecasters: dict[str, Forecaster], path: Path
) -> None:
    case = json.loads(path.read_text())
    forecaster = forecasters[case["weights"]]
    columns = case["history"]
    request = ForecastRequest(
        symbol=case["name"],
        horizon=len(case["target_timestamps"]),
        ohlcv=[dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)],
        target_timestamps=case["target_timestamps"],
        samples=1,
        top_k=1,
        top_p=1.0,
    )
    prepared = forecaster.prepare(request)

    [paths] = forecaster.generate([prepared.prompt])

    assert paths.s1[0].tolist() == case["s1_tokens"]
    assert paths.s2[0].tolist() == case["s2_tokens"]
    expected = np.array([case["expected"][name] for name in COLUMNS]).T
    bound = 1e-5 * (np.abs(expected) + prepared.scale.std)
    assert (np.abs(prepared.values(paths)[0] - expected) <= bound).all()


def test_there_are_cases_with_and_without_volume() -> None:
    have_volume = {"volume" in json.loads(path.read_text())["history"] for path in CASES}

    assert have_volume == {True, False}
