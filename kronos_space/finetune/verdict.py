"""The verdict on a fine-tuned checkpoint: two backtests of days not used for training."""

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

CONTEXT = 500  # bars, as in the job
WINDOWS = 50  # minimum per ticker if there are as many sessions; with fewer there is no interval


def judge(
    folder: Path,
    about: Mapping[str, Any],
    settings: Settings,
    test_sessions: int,
    work: Path,
    reporter: ProgressReporter,
) -> dict[str, Any]:
    """Backtest the checkpoint and its base after `about["until"]`, and compare them.

    Both are served by a Space on this machine, with the job's settings. The two results files are
    in `work`; an interrupted run resumes them.

    Raises:
        FinetuneError: A Space did not make all forecasts.
        KronosError: No ticker has a window, or a Space does not start.
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
        partly = result.missing < result.wanted
        # the Space would refuse the same forecasts again in another run
        if result.missing and not (result.refused and partly):
            raise FinetuneError(
                f"{result.missing} of {result.wanted} forecasts of {result.model} for the verdict "
                f"are missing: {result.error}; repeat the command to resume"
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
        sentence = f"better than {base} by {gain}, in the combined forecast by {combined}"
    elif compared.gain.is_sure:
        sentence = (
            f"ahead of {base} by {gain}, but not better to serve: over a random walk {walk}, in "
            f"the combined forecast {combined}"
        )
    else:
        sentence = f"not better than {base}: {gain}, in the combined forecast {combined}"
    return {"better": better, "sentence": sentence, **document}


def is_better(compared: Comparison) -> bool:
    """Return whether to serve the fine-tuned model.

    The model must be significantly better than its base. This is not sufficient, because a model
    can gain much over a poor base and still be no better than a random walk. For example, a model
    that is trained on white noise learns to predict a random walk. Such a model harms the combined
    forecast less than its base does. So the model must also significantly beat the random walk, or
    significantly improve a combined forecast that significantly beats the random walk.
    """
    helps = compared.combined.is_sure and compared.combined_over_walk.is_sure
    return compared.gain.is_sure and (compared.over_walk.is_sure or helps)
