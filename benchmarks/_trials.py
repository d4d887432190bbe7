"""Challengers on trial with the model of `combination.py`: when they earn a share, and its gain.

Synthetic challengers know nothing more than the model, or a stated part of the outcomes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from statistics import NormalDist

import numpy as np

from benchmarks._support import say, table
from tradingbot.combination_shares import RANDOM_WALK
from tradingbot.forecast import QUANTILE_LEVELS
from tradingbot.postprocessing.combination import Course, Panel, replay, without_record
from tradingbot.postprocessing.experts import EXPERTS
from tradingbot.typing import Floats

NORMAL = np.array([NormalDist().inv_cdf(level) for level in QUANTILE_LEVELS])
# returns quantiles (n, 19) from a panel and the realised volatility
Maker = Callable[[Panel, Floats], Floats]


def hopeless(panel: Panel, _coming: Floats) -> Floats:
    """Return the champion's bands ÷ 4, with the median off by one expected move."""
    median = panel.model[:, [len(QUANTILE_LEVELS) // 2]]
    return median + panel.scale[:, None] + (panel.model - median) / 4


def again(panel: Panel, _coming: Floats) -> Floats:
    return panel.model.copy()


def half_of_volatility(panel: Panel, coming: Floats) -> Floats:
    """Return normal bands, with the geometric mean of expected and realised volatility."""
    return NORMAL * np.sqrt(panel.scale * coming)[:, None]


def tenth_of_moves(panel: Panel, _coming: Floats) -> Floats:
    return 0.1 * panel.actual[:, None] + NORMAL * panel.scale[:, None]


SYNTHETIC: Mapping[str, Maker] = {
    "hopeless: bands ÷ 4, median one deviation off": hopeless,
    "the champion again": again,
    "knows half of the next five sessions' volatility": half_of_volatility,
    "knows a tenth of each move": tenth_of_moves,
}


def trial(panel: Panel, name: str, quantiles: Floats, step: int) -> tuple[Course, Panel]:
    """Return the course with a challenger of these quantiles, and the panel that includes it."""
    with_challenger = replace(
        panel, experts=np.concatenate([panel.experts, quantiles[:, None]], axis=1)
    )
    start = without_record(len(EXPERTS)).with_challengers([name])
    return replay(with_challenger, start, step=step), with_challenger


def sessions_until(course: Course) -> int | None:
    """Return the number of sessions until the challenger earned a share, or None."""
    return next((number for number, state in enumerate(course.states) if state.rivals), None)


def trial_table(
    panels: Sequence[Panel],
    coming: Sequence[Floats],
    others: Mapping[str, Sequence[Floats]],
    skill: Callable[[Sequence[Floats], str], str],
) -> str:
    """Return a row per challenger: synthetic ones, and `others` with quantiles per step.

    `coming` is the realised deviation by step. `skill` compares quantiles with another forecaster.
    """
    synthetic = {
        name: [make(panel, known) for panel, known in zip(panels, coming, strict=True)]
        for name, make in SYNTHETIC.items()
    }
    rows = []
    for name, quantiles in {**synthetic, **others}.items():
        say(f"on trial: {name}")
        tried = [
            trial(panel, name, of_step, step)
            for step, (panel, of_step) in enumerate(zip(panels, quantiles, strict=True), start=1)
        ]
        served = [course.combine(panel) for course, panel in tried]
        after = [sessions_until(course) for course, _ in tried]
        rows.append([name, _when(after), skill(served, "combined"), skill(served, RANDOM_WALK)])
    head = ["challenger", "earns a share", "change of the served CRPS", "skill over the walk"]
    return table(head, rows)


def _when(after: Sequence[int | None]) -> str:
    earned = sorted(sessions for sessions in after if sessions is not None)
    if not earned:
        return "never"
    steps = "" if len(earned) == len(after) else f", {len(earned)} of {len(after)} steps"
    return f"after {earned[0]} to {earned[-1]} sessions{steps}"
