"""Challengers on trial beside the model of `combination.py`: when they earn a share, and its gain.

Those made up know nothing more than the model, or a stated part of what is to come.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from statistics import NormalDist

import numpy as np

from benchmarks._support import say, table
from tradingbot.combination_shares import RANDOM_WALK
from tradingbot.forecast import QUANTILE_LEVELS
from tradingbot.postprocessing.combination import Course, Panel, replay, untaught
from tradingbot.postprocessing.experts import EXPERTS
from tradingbot.typing import Floats

NORMAL = np.array([NormalDist().inv_cdf(level) for level in QUANTILE_LEVELS])
Maker = Callable[[Panel, Floats], Floats]  # of quantiles (n, 19), from a panel and what comes


def hopeless(panel: Panel, _coming: Floats) -> Floats:
    """The champion's bands ÷ 4, and its median one expected move off."""
    median = panel.model[:, [len(QUANTILE_LEVELS) // 2]]
    return median + panel.scale[:, None] + (panel.model - median) / 4


def again(panel: Panel, _coming: Floats) -> Floats:
    return panel.model.copy()


def half_of_volatility(panel: Panel, coming: Floats) -> Floats:
    """Widths between what is expected and what comes, in logarithms."""
    return NORMAL * np.sqrt(panel.scale * coming)[:, None]


def tenth_of_moves(panel: Panel, _coming: Floats) -> Floats:
    return 0.1 * panel.actual[:, None] + NORMAL * panel.scale[:, None]


MADE_UP: Mapping[str, Maker] = {
    "hopeless: bands ÷ 4, median one deviation off": hopeless,
    "the champion again": again,
    "knows half of the next five sessions' volatility": half_of_volatility,
    "knows a tenth of each move": tenth_of_moves,
}


def trial(panel: Panel, name: str, quantiles: Floats, step: int) -> tuple[Course, Panel]:
    """What is learnt with a challenger that says this, and the panel with it."""
    beside = replace(panel, experts=np.concatenate([panel.experts, quantiles[:, None]], axis=1))
    start = untaught(len(EXPERTS)).with_challengers([name])
    return replay(beside, start, step=step), beside


def sessions_until(course: Course) -> int | None:
    """After how many sessions the challenger has earned a share; None: never."""
    return next((number for number, state in enumerate(course.states) if state.rivals), None)


def trial_table(
    panels: Sequence[Panel],
    coming: Sequence[Floats],
    others: Mapping[str, Sequence[Floats]],
    skill: Callable[[Sequence[Floats], str], str],
) -> str:
    """A row a challenger: those made up, and `others`, its quantiles of each step.

    `coming` is each step's realised deviation; `skill` compares quantiles with another forecaster.
    """
    said = {
        name: [make(panel, known) for panel, known in zip(panels, coming, strict=True)]
        for name, make in MADE_UP.items()
    }
    rows = []
    for name, quantiles in {**said, **others}.items():
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
    some = sorted(one for one in after if one is not None)
    if not some:
        return "never"
    steps = "" if len(some) == len(after) else f", {len(some)} of {len(after)} steps"
    return f"after {some[0]} to {some[-1]} sessions{steps}"
