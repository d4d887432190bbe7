"""The output of `kronosbot backtest`: a table of the metrics, or one JSON document.

  {"exit_code": 0, "error": null, "file": "backtest.csv", "windows": 400, "missing": 0,
   "made": 400, "seconds": 21.4, "settings": {"model": "kronos-nano", "horizon": "5", …},
   "failed": {"ZZZZ": "ZZZZ: the sample has …"}, "fewer": {"GOOG": 80},
   "in_training": {"yes": 1200, "no": 800},      forecasts by the file's column in_training
   "without_outcome": 3,                         forecasts of sessions that have no bar
   "jumps": {"GOOG": "0.1 times on 2023-07-12"}, probably a split missing from the candles
   "measures": {"1": {"n": 400, "relative_mae": 1.03, …}, …, "all": {…}, "unseen": {…}},
   "chain": {"n": 800, "unseen": true,           scores by post-processing, without look-ahead
             "links": {"raw": {"crps_skill": -0.1, "skill_low": -0.12, …}, "anchored": {…},
                       "calibrated": {…}, "combined": {…}, "random walk": {…}, …},
             "shares": {"kronos": 0.04, "random walk": 0.1, …},
             "worst": {"symbol": "GOOG", "behind": 0.005, "best": "range walk"}}}

A metric is null with too few forecasts. "unseen" covers the days on which the model was not
trained. If there are such days, the chain uses only them; it is null with too few forecasts. If the
backtest cannot be run, the document is {"exit_code": 2, "error": {…}}.
"""

from dataclasses import asdict
from typing import Any

from rich.console import Console

from tradingbot.cli.output import print_line
from tradingbot.evaluation.metrics import MIN_FORECASTS, ForecastMetrics
from tradingbot.evaluation.training_cutoff import trained_until
from tradingbot.walk_forward.evaluation import Evaluation
from tradingbot.walk_forward.postprocessing_chain import Chain, Link
from tradingbot.walk_forward.runner import WalkForwardResult

_KINDS = {"no": "unseen in training", "yes": "in training", "unknown": "perhaps in training"}
_HEAD = (
    "                MAE ÷ that of  CRPS below a walk  Closes inside the band   Direction right",
    "Ahead        n  no change       random   by EWMA   50 %  80 % (95 %)    90 %  (95 % interval)",
)


def backtest_document(walked: WalkForwardResult, evaluation: Evaluation) -> dict[str, Any]:
    """Return the JSON document: the state of the backtest, and its metrics."""
    return {
        "error": None,
        "file": str(walked.path),
        "windows": walked.wanted,
        "missing": walked.missing,
        "why_missing": walked.error,
        "made": walked.made,
        "seconds": round(walked.seconds, 3),
        "settings": evaluation.settings,
        "failed": {symbol: str(error) for symbol, error in walked.failed.items()},
        "fewer": walked.fewer,
        "in_training": evaluation.in_training,
        "without_outcome": evaluation.without_outcome,
        "jumps": evaluation.jumps,
        "measures": {name: asdict(metrics) for name, metrics in evaluation.measures.items()},
        "chain": None if evaluation.chain is None else asdict(evaluation.chain),
    }


def show_backtest(walked: WalkForwardResult, evaluation: Evaluation, console: Console) -> None:
    """Print the table of metrics, then the facts needed to interpret them."""
    for line in _lines(walked, evaluation):
        print_line(console, line)


def _lines(walked: WalkForwardResult, evaluation: Evaluation) -> list[str]:
    measured = evaluation.measures
    lines = [_HEAD[0], _HEAD[1], *(_row(name, metrics) for name, metrics in measured.items()), ""]
    if evaluation.chain is not None:
        lines += [*_chain(evaluation.chain), ""]
    counts = evaluation.in_training
    total = sum(counts.values())
    trained = ", ".join(f"{_KINDS[kind]} {counts[kind]:,}" for kind in _KINDS if kind in counts)
    lines.append(f"Trained   {walked.model}: {trained_until(walked.model)}")
    lines.append(f"          of {total:,} forecasts with an outcome" + (trained and f": {trained}"))
    if without := evaluation.without_outcome:
        due = total + without
        lines.append(f"No bar    {without:,} of {due:,} forecasts: no candle of their session")
    for symbol, jump in evaluation.jumps.items():
        lines.append(f"Jump      {symbol}: its close was {jump}. A split that is missing from")
        lines.append("          the candles? Then the figures above are unreliable")
    for symbol, count in walked.fewer.items():
        allowed = "1 window" if count == 1 else f"{count:,} windows"
        lines.append(f"Fewer     {symbol}: its history allows {allowed} only")
    for symbol, error in walked.failed.items():
        lines.append(f"Failed    {symbol}: {error.reason}")
    if walked.missing:
        lines.append(f"Missing   {walked.missing:,} of {walked.wanted:,} windows: {walked.error}")
        if not walked.refused:
            lines.append("          the same command again requests only these")
    if walked.made:
        rate = walked.made / walked.seconds
        lines.append(f"Took      {walked.seconds:.1f} s, {rate:.3g} windows a second")
    lines.append(f"File      {walked.path}; nothing went into the database")
    return lines


def _chain(chain: Chain) -> list[str]:
    """Return the score after each kind of post-processing, and the final weights."""
    days = "unseen in training" if chain.unseen else "all in training"
    lines = [
        f"As served: {chain.n:,} forecasts, {days}; nothing looks ahead",
        "              CRPS below a random walk  below one by EWMA         Closes inside the band",
        "              (95 % interval)           (95 % interval)           50 %   80 %   90 %",
        *(_link(name, link) for name, link in chain.links.items()),
    ]
    ranked = sorted(chain.shares.items(), key=lambda item: -item[1])
    lines.append("Shares    " + ", ".join(f"{name} {share:.0%}" for name, share in ranked))
    if (worst := chain.worst) is not None:
        side = "behind" if worst.behind > 0 else "ahead of"
        lines.append(
            f"Worst     {worst.symbol}: combined {abs(worst.behind):.1%} {side} {worst.best}, its "
            "best single forecast in hindsight"
        )
    return lines


def _link(name: str, link: Link) -> str:
    random = _skill(link.crps_skill) + _bounds(link.skill_low, link.skill_high)
    ewma = _skill(link.ewma_skill) + _bounds(link.ewma_low, link.ewma_high)
    held = (link.coverage_50, link.coverage_80, link.coverage_90)
    return f"{name:14}{random:26}{ewma:26}" + "".join(f"{share:<7.1%}" for share in held).rstrip()


def _bounds(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f" ({100 * low:+.1f} to {100 * high:+.1f})"


def _row(name: str, measured: ForecastMetrics) -> str:
    start = f"{name:6}{measured.n:8,}  "
    if measured.n < MIN_FORECASTS:
        return f"{start}too few: {measured.n} of {MIN_FORECASTS} that a figure needs"
    if measured.relative_mae is None:
        return f"{start}no figures: the closes never moved"
    direction = _share(measured.hit_rate) + _interval(measured.hit_low, measured.hit_high)
    held = _share(measured.coverage_80)
    held += _interval(measured.coverage_80_low, measured.coverage_80_high)
    return (
        f"{start}{measured.relative_mae:<13.3f}{_skill(measured.crps_skill):>9}"
        f"{_skill(measured.ewma_skill):>10}{_share(measured.coverage_50):>7}  {held:<15}"
        f"{_share(measured.coverage_90):<6}{direction}"
    )


def _skill(value: float | None) -> str:
    return "" if value is None else f"{100 * value:+.1f} %"


def _interval(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f" ({100 * low:.0f}–{100 * high:.0f})"  # noqa: RUF001


def _share(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.0f} %"
