"""The verdict on a fine-tuned checkpoint: two backtests of days that nothing was learnt from."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from kronos_space.finetune.card import between, percent
from kronos_space.finetune.errors import FinetuneError
from tradingbot.runtime.progress import ProgressReporter
from tradingbot.settings import TEMPERATURE, TOP_P, Settings
from tradingbot.walk_forward.comparison import Comparison, compare
from tradingbot.walk_forward.runner import WalkForwardConfig, WalkForwardResult, run

CONTEXT = 500  # bars, as the job sends them
WINDOWS = 50  # of each ticker, at least where there are as many sessions: fewer have no interval


def judge(
    folder: Path,
    about: Mapping[str, Any],
    settings: Settings,
    test_sessions: int,
    work: Path,
    reporter: ProgressReporter,
) -> dict[str, Any]:
    """Backtest the checkpoint and its base after `about["until"]`, and compare them.

    Both are served as the job is served them, by a Space on this machine. The two results files
    lie in `work`; a run that was interrupted goes on with them.

    Raises:
        FinetuneError: A Space did not make all forecasts.
        KronosError: No ticker has a window, a Space does not start.
    """
    work.mkdir(parents=True, exist_ok=True)
    stride = max(1, min(settings.horizon, test_sessions // WINDOWS))
    files = {
        "challenger": (work / "challenger.csv", str(folder)),
        "champion": (work / "champion.csv", about["base_path"]),
    }
    for path, model in files.values():
        config = WalkForwardConfig(
            tickers=tuple(about["symbols"]),
            windows=test_sessions // stride,
            stride=stride,
            context=CONTEXT,
            temperature=TEMPERATURE,
            top_p=TOP_P,
            until=None,
            model=model,
            local=True,
        )
        result = WalkForwardResult(path)
        run(settings, config, result, reporter)
        some = result.missing < result.wanted
        if result.missing and not (result.refused and some):  # of those no further run makes one
            raise FinetuneError(
                f"{result.missing} of {result.wanted} forecasts of {result.model} for the verdict "
                f"are missing: {result.error}; the same command goes on"
            )
    after = datetime.strptime(about["until"], "%Y-%m-%d")
    compared = compare(files["challenger"][0], files["champion"][0], after=after)
    return in_words(compared, about["base"])


def in_words(compared: Comparison, base: str) -> dict[str, Any]:
    """Return the comparison as a document, with `better` and its `sentence`."""
    document = asdict(compared)
    document["by_step"] = {str(step): gain for step, gain in document["by_step"].items()}
    for name in ("coverage", "champion_coverage"):
        document[name] = {str(band): share for band, share in document[name].items()}
    better = is_better(compared)
    gain, combined, walk = (
        f"{percent(document[name])} ({between(document[name])})"
        for name in ("gain", "combined", "over_walk")
    )
    if better:
        said = f"better than {base} by {gain}, in the combined forecast by {combined}"
    elif compared.gain.is_sure:
        said = (
            f"ahead of {base} by {gain}, but not better to serve: over a random walk {walk}, in "
            f"the combined forecast {combined}"
        )
    else:
        said = f"not better than {base}: {gain}, in the combined forecast {combined}"
    return {"better": better, "sentence": said, **document}


def is_better(compared: Comparison) -> bool:
    """Whether to serve the challenger: surely ahead of its base, and of use beside plain walks.

    A model may gain much on a poor base and still know nothing that a walk does not: on white
    noise it learns to be one, and to spoil the combined forecast less. So it must also surely beat
    the walk, or surely improve a combined forecast that surely beats it.
    """
    helps = compared.combined.is_sure and compared.combined_over_walk.is_sure
    return compared.gain.is_sure and (compared.over_walk.is_sure or helps)
