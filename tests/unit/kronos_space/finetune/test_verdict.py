"""The backtests of the final evaluation: number of windows, and missing forecasts."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kronos_space.finetune import verdict
from kronos_space.finetune.errors import FinetuneError
from tests.support.finetuning import ABOUT, GOOD
from tradingbot.runtime.progress import ProgressReporter
from tradingbot.settings import Settings
from tradingbot.walk_forward.runner import WalkForwardConfig, WalkForwardResult


def judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sessions: int, **missing: Any
) -> tuple[dict[str, Any], list[WalkForwardConfig]]:
    configs: list[WalkForwardConfig] = []

    def run(_: Settings, config: WalkForwardConfig, result: WalkForwardResult, *__: Any) -> None:
        assert result.path.parent.is_dir()
        configs.append(config)
        for name, value in {"model": "x", "wanted": 10, **missing}.items():
            setattr(result, name, value)

    monkeypatch.setattr(verdict, "run", run)
    monkeypatch.setattr(verdict, "compare", lambda *_, **__: replace(GOOD))
    settings = Settings.from_env({})
    folder, work = tmp_path / "tuned", tmp_path / "tuned.work"
    judgement = verdict.judge(folder, ABOUT, settings, sessions, work, ProgressReporter())
    return judgement, configs


@pytest.mark.parametrize(("sessions", "stride"), [(30, 1), (99, 1), (120, 2), (250, 5), (999, 5)])
def test_a_short_span_is_evaluated_with_overlapping_windows_to_get_an_interval(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sessions: int, stride: int
) -> None:
    judgement, configs = judged(tmp_path, monkeypatch, sessions)
    assert judgement["better"]
    assert [(config.stride, config.windows) for config in configs] == [
        (stride, sessions // stride)
    ] * 2


@pytest.mark.parametrize("missing", [{"missing": 10, "refused": True}, {"missing": 1}])
def test_there_is_no_verdict_without_the_forecasts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: dict[str, Any]
) -> None:
    with pytest.raises(
        FinetuneError, match=r"of 10 forecasts of x .* are missing: queue full; repeat the"
    ):
        judged(tmp_path, monkeypatch, 100, error="queue full", **missing)


def test_windows_refused_by_every_space_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judgement, _ = judged(tmp_path, monkeypatch, 100, error="too short", missing=1, refused=True)
    assert judgement["better"]
