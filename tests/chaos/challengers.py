"""Kinds of faults of a challenger's Space. The champion's forecasts must not depend on it.

The moments of these Spaces have the prefix "other": "other restart", "other batch".
"""

import os
import signal
from collections.abc import Callable
from random import Random

from tests.chaos.faults import (
    ATTEMPTS,
    ENDS_EARLY,
    FAILED_STAGES,
    FOR_EVER,
    GARBAGE,
    KINDS,
    TROUBLE,
    Draw,
    Fault,
    Kind,
    Schedule,
    combine,
    times,
)
from tests.chaos.world import World
from tests.support import hub
from tests.support.hub import Container

FIRST_SEED = 1_000_000  # of the schedules with challengers
LINEUPS: dict[str, dict[str, str]] = {  # model -> its Space
    "one": {"tuned": "someone/second"},
    "two": {"tuned": "someone/second", "wild": "someone/third"},
    "two in one Space": {"tuned": "someone/second", "wild": "someone/second"},
}
BESIDES = (  # other faults with which a night still comes to its challengers
    *("Space dies mid-batch", "Space answers garbage", "Space is slow to be healthy"),
    *("Hub answers 429 on restart", "Hub answers 4xx on pause", "two runs at once"),
    *("database drops its connections", "database is gone for a second", "a few bad histories"),
)
OTHER_KINDS: dict[str, Kind] = {}


def draw_with_challengers(seed: int, attempt: int = 0) -> Schedule:
    """Draw a schedule with challengers: one of their faults, and up to two of any kind."""
    random = Random(f"{seed}/{attempt}")
    draw = Draw(random, early=0.6**attempt)
    kinds = list(OTHER_KINDS.values())
    main = kinds[seed % len(kinds)]
    besides = [*kinds, *(KINDS[name] for name in BESIDES)]
    schedule = combine(seed, attempt, main, besides, draw)
    schedule.lineup = LINEUPS[random.choice(list(LINEUPS))]
    return schedule


def _kind(
    name: str, group: str, *, alone: bool = False
) -> Callable[[Callable[[Draw], Fault]], Callable[[Draw], Fault]]:
    def register(draw: Callable[[Draw], Fault]) -> Callable[[Draw], Fault]:
        OTHER_KINDS[name] = Kind(name, group, draw, alone)
        return draw

    return register


def _container(world: World) -> Container:
    return next(space.container for space in world.others if space.running and space.container)


@_kind("challenger's Space dies", "other space")
def _dies(draw: Draw) -> Fault:
    moment, number = draw.moment(other_batch_sent=2, other_batch_done=2)

    def act(world: World) -> None:
        _container(world).kill()

    return Fault(f"challenger's Space dies at {moment} {number}", moment, act, number, spares=True)


@_kind("challenger's Space hangs", "other space")
def _hangs(draw: Draw) -> Fault:
    number = draw.within(2)

    def act(world: World) -> None:
        os.kill(_container(world).pid, signal.SIGSTOP)

    says = f"challenger's Space hangs in batch {number}"
    return Fault(says, "other batch sent", act, number, spares=True)


@_kind("challenger's Space answers garbage", "other space")
def _garbage(draw: Draw) -> Fault:
    name, number, count = draw.random.choice(list(GARBAGE)), draw.within(2), draw.within(3)
    says = f"challenger's Space answers {name} from batch {number} on, {times(count)}"
    return Fault(says, "other batch", lambda world: GARBAGE[name], number, count, spares=True)


@_kind("challenger's Space fails or does not end", "other space")
def _fails(draw: Draw) -> Fault:
    answer = draw.random.choice((401, 404, 413, 429, 500, 503, "cut", "drip", "endless"))
    number, count = draw.within(2), draw.random.choice((1, 2, 5))
    says = f"challenger's Space answers batch {number}: {answer}, {times(count)}"
    return Fault(says, "other batch", lambda world: answer, number, count, spares=True)


@_kind("challenger's Space is never healthy", "other start")
def _never_healthy(draw: Draw) -> Fault:
    answer = draw.random.choice((503, 404, 500, "cut", "drip", "endless"))
    says = f"challenger's /health: {answer} for ever"
    return Fault(
        says, "other health", lambda world: answer, times=FOR_EVER, wake_timeout=9, spares=True
    )


@_kind("challenger's Space does not start", "other start")
def _does_not_start(draw: Draw) -> Fault:
    stage = draw.random.choice(FAILED_STAGES)

    def act(world: World) -> None:
        for space in world.others:
            space.ends_as = stage

    says = f"challenger's stage becomes {stage}"
    return Fault(says, "other restart", act, times=FOR_EVER, spares=True)


@_kind("challenger's Space has another model", "other start")
def _another_model(draw: Draw) -> Fault:
    def act(world: World) -> None:
        for space in world.others:
            space.environ = {**world.hub.environ}

    says = "challenger's Space has another model"
    return Fault(says, "other restart", act, times=FOR_EVER, spares=True)


def _hub_kind(action: str, trouble: str) -> None:
    @_kind(f"Hub {trouble} on {action} of a challenger", f"other {action}")
    def _(draw: Draw) -> Fault:
        answer = draw.random.choice((*TROUBLE[trouble], *((402,) if trouble == "refuses" else ())))
        count = draw.random.choice((1, 2, 3, 4, 6, FOR_EVER))
        says = f"Hub {answer} on {action} of a challenger, {times(count)}"
        refused = trouble == "refuses" and action not in ("pause", "verify")
        in_time = 2 if answer in ("hang", "mute", "drip") else ATTEMPTS - 1
        passes = not refused and count <= in_time and action != "restart"
        moment = f"other {action}"
        return Fault(says, moment, lambda world: answer, 1, count, passes, spares=True)


for _action in ("restart", "runtime", "pause", "verify"):
    for _trouble in ("refuses", "answers 5xx", "times out", "drips"):
        _hub_kind(_action, _trouble)
for _action in ("pause", "verify"):
    for _trouble in ("answers 4xx", "breaks off", "errs, yet does it"):
        _hub_kind(_action, _trouble)


@_kind("Hub does not pause a challenger", "other pause")
def _does_not_pause(draw: Draw) -> Fault:
    count = draw.random.choice((1, 2, FOR_EVER))
    says = f"Hub says yes to a challenger's pause and does nothing, {times(count)}"
    passes = count < ATTEMPTS
    return Fault(says, "other pause", lambda world: "deaf", 1, count, passes, spares=True)


@_kind("signal at work with a challenger", "signal")
def _signal(draw: Draw) -> Fault:
    moment, nth = draw.moment(
        other_restart=1, other_runtime=3, other_health=1, other_batch=2, other_batch_sent=2,
        other_batch_done=2, other_pause=1, other_paused=1, other_verify=1,
    )  # fmt: skip
    number = draw.random.choice((signal.SIGTERM, signal.SIGTERM, signal.SIGINT, signal.SIGKILL))

    def act(world: World) -> None:
        world.runs[0].send(number)

    return Fault(f"{number.name} at {moment} {nth}", moment, act, nth)


@_kind("signal while a challenger cannot be paused", "signal", alone=True)
def _signal_before_pause(draw: Draw) -> Fault:
    answer = draw.random.choice((503, 409, "hang", "drip", "deaf"))
    signalled = False

    def act(world: World) -> hub.Fault:
        nonlocal signalled
        if not signalled:
            signalled = True
            world.runs[0].send(signal.SIGTERM)
        return answer

    says = f"SIGTERM at a challenger's pause, which ends with {answer}"
    return Fault(says, "other pause", act, times=FOR_EVER)


@_kind("death with a challenger, then an early end", "signal", alone=True)
def _death_before_the_wake(draw: Draw) -> Fault:
    moment, number = draw.moment(other_health=1, other_batch=2, other_batch_done=2, other_runtime=3)
    name = draw.random.choice(list(ENDS_EARLY))
    arguments, settings, code = ENDS_EARLY[name]

    def act(world: World) -> None:
        world.start("second", *arguments, settings=settings, ends_with=code)
        world.runs[0].send(signal.SIGKILL)

    return Fault(f"SIGKILL at {moment} {number}, then a run with {name}", moment, act, number)


@_kind("database is gone while a challenger works", "database")
def _database_gone(draw: Draw) -> Fault:
    moment, number = draw.moment(other_restart=1, other_batch=2, other_batch_done=2, other_pause=1)
    shortly = draw.random.random() < 0.5

    def act(world: World) -> None:
        world.proxy.refuse()
        world.proxy.cut()
        if shortly:
            world.later(1.0, world.proxy.accept)

    says = f"database is gone {'1 s' if shortly else 'for good'} at {moment} {number}"
    return Fault(says, moment, act, number, passes=shortly, spares=True)


@_kind("another run while a challenger works", "runs")
def _two_runs(draw: Draw) -> Fault:
    moment, number = draw.moment(other_restart=1, other_health=1, other_batch=2, other_pause=1)

    def act(world: World) -> None:
        world.start("second")

    return Fault(f"another run begins at {moment} {number}", moment, act, number, passes=True)
