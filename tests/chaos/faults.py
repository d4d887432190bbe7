"""Kinds of faults around the job, and schedules of faults drawn from a seed.

A fault waits for its moment ("the third batch", "the first restart"). Then it acts on the world, or
changes the answer of the Hub or the Space. `fired` counts how often it did so.
"""

import json
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import Any

from tests.chaos.world import TICKERS, WHOLE, World
from tests.support import hub
from tests.support.hub import Container
from tradingbot.jobs.sharding import Shard

ATTEMPTS = 4  # calls to the Hub or the Space; fewer consecutive failures are survived
FOR_EVER = 10**6
STARTS_IN = 8  # maximum seconds until a Space has started
FAILED_STAGES = ("BUILD_ERROR", "RUNTIME_ERROR", "CONFIG_ERROR", "NO_APP_FILE")

Act = Callable[[World], hub.Fault | None]


@dataclass
class Fault:
    """Call `act` at the `number`-th occurrence of `moment` and `times` - 1 further ones."""

    says: str
    moment: str
    act: Act
    number: int = 1
    times: int = 1
    passes: bool = False  # the job survives it: everything is stored, exit code 0
    takes: float = 0.0  # seconds by which each occurrence delays the wake
    wake_timeout: int = 20  # KRONOS_WAKE_TIMEOUT; short if the Space never starts
    bad_tickers: tuple[str, ...] = ()  # their candles are bad from the beginning
    shard: Shard = WHOLE  # the shard of the first run
    spares: bool = False  # the champion's forecasts are all stored
    kind: str = ""
    fired: int = 0

    @property
    def hurries(self) -> bool:
        """Whether waking the Space may time out on a busy machine."""
        return self.wake_timeout < STARTS_IN

    def covers(self, number: int) -> bool:
        return self.number <= number < self.number + self.times


@dataclass
class Draw:
    """Draws random numbers. `early` shrinks towards 0 after faults that came too late to happen."""

    random: Random
    early: float = 1.0

    def within(self, most: int) -> int:
        return self.random.randint(1, max(1, round(most * self.early)))

    def moment(self, **most: int) -> tuple[str, int]:
        """Draw a moment and its occurrence number."""
        name = self.random.choice(list(most))
        return name.replace("_", " "), self.within(most[name])


@dataclass
class Kind:
    """A row of the summary; a schedule has at most one fault of each group."""

    name: str
    group: str
    draw: Callable[[Draw], Fault]
    alone: bool = False  # not combined with other faults


KINDS: dict[str, Kind] = {}


def kind(
    name: str, group: str, *, alone: bool = False
) -> Callable[[Callable[[Draw], Fault]], Callable[[Draw], Fault]]:
    def register(draw: Callable[[Draw], Fault]) -> Callable[[Draw], Fault]:
        KINDS[name] = Kind(name, group, draw, alone)
        return draw

    return register


@dataclass
class Schedule:
    """The schedule of one seed."""

    seed: int
    attempt: int
    faults: list[Fault]
    stage_before: str = "PAUSED"  # stage of the Space; RUNNING: another user has woken it
    fresh: bool = False  # an empty database without the schema
    force: bool = False  # the next run uses --force
    shard: Shard = WHOLE  # of the first run
    settings: dict[str, str] = field(default_factory=dict)
    lineup: dict[str, str] = field(default_factory=dict)  # challenger -> its Space


def draw_schedule(seed: int, attempt: int = 0) -> Schedule:
    """Draw one to three faults; each kind is the main fault of every len(KINDS)-th seed.

    A later `attempt` keeps the main kind, and draws an earlier moment and other additional faults.
    """
    kinds = list(KINDS.values())
    draw = Draw(Random(f"{seed}/{attempt}"), early=0.6**attempt)
    return combine(seed, attempt, kinds[seed % len(kinds)], kinds, draw)


def combine(seed: int, attempt: int, main: Kind, kinds: list[Kind], draw: Draw) -> Schedule:
    """Draw a schedule with a fault of the kind `main` and up to two of other groups."""
    random = draw.random
    chosen = [main]
    groups = [group for group in dict.fromkeys(k.group for k in kinds) if group != chosen[0].group]
    more = random.sample(groups, max(0, random.choice((0, 1, 1, 2)) - attempt))
    if not chosen[0].alone:
        social = [[k for k in kinds if k.group == group and not k.alone] for group in more]
        chosen += [random.choice(of_group) for of_group in social if of_group]
    faults = []
    for each in chosen:
        fault = each.draw(draw)
        fault.kind = each.name
        faults.append(fault)
    wake_timeout = min(fault.wake_timeout for fault in faults)
    for fault in faults:
        fault.passes &= fault.takes * fault.times + STARTS_IN <= wake_timeout or not fault.takes
    return Schedule(
        seed,
        attempt,
        faults,
        stage_before=random.choice(("PAUSED", "PAUSED", "RUNNING", "SLEEPING", "RUNTIME_ERROR")),
        fresh=random.random() < 0.15,
        force=random.random() < 0.3,
        shard=next((fault.shard for fault in faults if fault.shard is not WHOLE), WHOLE),
        settings={"KRONOS_WAKE_TIMEOUT": str(wake_timeout)},
    )


def times(number: int) -> str:
    return "for ever" if number == FOR_EVER else "once" if number == 1 else f"{number} times"


# the Space ------------------------------------------------------------------------------------


def _container(world: World) -> Container:
    container = world.hub.container
    assert container is not None
    return container


@kind("Space dies mid-batch", "space")
def _space_dies(draw: Draw) -> Fault:
    delay, number = draw.random.choice((0.0, 0.005, 0.02)), draw.within(3)

    def act(world: World) -> None:
        time.sleep(delay)
        _container(world).kill()

    return Fault(f"Space dies in batch {number}", "batch sent", act, number)


@kind("Space dies between batches", "space")
def _space_dies_between(draw: Draw) -> Fault:
    number = draw.within(2)
    return Fault(
        f"Space dies after batch {number}",
        "batch done",
        lambda world: _container(world).kill(),
        number,
    )


@kind("Space hangs mid-batch", "space")
def _space_hangs(draw: Draw) -> Fault:
    number, wakes_up = draw.within(3), draw.random.random() < 0.4

    def act(world: World) -> None:
        pid = _container(world).pid
        os.kill(pid, signal.SIGSTOP)
        if wakes_up:
            world.later(3.5, lambda: _signal(pid, signal.SIGCONT))

    says = f"Space hangs in batch {number}{', 3.5 s long' if wakes_up else ''}"
    return Fault(says, "batch sent", act, number)


def _signal(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


@kind("Space answers garbage", "space")
def _space_garbage(draw: Draw) -> Fault:
    name, number, count = draw.random.choice(list(GARBAGE)), draw.within(3), draw.within(2)
    says = f"Space answers {name} from batch {number} on, {times(count)}"
    return Fault(says, "batch", lambda world: GARBAGE[name], number, count)


def _changed(change: Callable[[Any], Any]) -> Callable[[bytes], bytes]:
    return lambda body: json.dumps(change(json.loads(body))).encode()


def _with(results: list[Any], **values: Any) -> dict[str, Any]:
    """Change the first prediction of the first result."""
    results[0]["predictions"][0].update(values)
    return {"results": results}


GARBAGE: dict[str, Callable[[bytes], bytes]] = {
    "nothing": lambda body: b"",
    "a page": lambda body: b"<html>It works!</html>",
    "half of it": lambda body: body[: len(body) // 2],
    "bytes": lambda body: bytes(range(256)),
    "a list": lambda body: b"[]",
    "no results": lambda body: b"{}",
    "null results": _changed(lambda answer: {"results": None}),
    "one result too few": _changed(lambda answer: {"results": answer["results"][1:]}),
    "results of others": _changed(lambda answer: {"results": answer["results"][::-1]}),
    "text as results": _changed(lambda answer: {"results": ["?"] * len(answer["results"])}),
    "NaN": _changed(lambda answer: _with(answer["results"], close=float("nan"))),
    "null prices": _changed(lambda answer: _with(answer["results"], open=None)),
    "other days": _changed(lambda answer: _with(answer["results"], target_date="1999-01-01")),
    "no quantiles": _changed(lambda answer: _with(answer["results"], close_quantiles={})),
    "an error each": _changed(
        lambda answer: {
            "results": [
                {"ok": False, "symbol": result["symbol"], "error": {"code": "x", "message": "no"}}
                for result in answer["results"]
            ]
        }
    ),
}


@kind("Space is busy or breaks off", "space")
def _space_busy(draw: Draw) -> Fault:
    answer = draw.random.choice((429, 502, 503, 504, "cut"))
    number, count = draw.within(3), draw.random.choice((1, 2, 3, 5))
    says = f"Space answers {answer} to batch {number}, {times(count)}"
    return Fault(says, "batch", lambda world: answer, number, count, passes=count < ATTEMPTS)


@kind("Space drips or does not end", "space")
def _space_continues(draw: Draw) -> Fault:
    answer, number = draw.random.choice(("drip", "endless")), draw.within(3)
    says = f"Space's answer to batch {number}: {answer}"
    return Fault(says, "batch", lambda world: answer, number)


@kind("Space answers 500", "space")
def _space_500(draw: Draw) -> Fault:
    number, count = draw.within(3), draw.within(3)
    says = f"Space answers 500 to batch {number}, {times(count)}"
    return Fault(says, "batch", lambda world: 500, number, count)


@kind("Space is never healthy", "start")
def _never_healthy(draw: Draw) -> Fault:
    answer = draw.random.choice((503, 404, 500, "cut"))
    return Fault(
        f"/health answers {answer} for ever",
        "health",
        lambda world: answer,
        times=FOR_EVER,
        wake_timeout=3,
    )


@kind("Space is slow to be healthy", "start")
def _slow_start(draw: Draw) -> Fault:
    count = draw.random.randint(4, 8)  # the job requests /health of the old container three times
    says = f"/health answers 503 {times(count)}"
    return Fault(says, "health", lambda world: 503, times=count, passes=True)


@kind("Space ends at its start", "start")
def _ends_at_start(draw: Draw) -> Fault:
    def act(world: World) -> None:
        world.hub.environ = {"KRONOS_MODEL": "/nowhere"}

    return Fault("Space ends at its start", "restart", act, times=FOR_EVER)


@kind("stage shows a failure", "start")
def _failure_stage(draw: Draw) -> Fault:
    stage = draw.random.choice(FAILED_STAGES)

    def act(world: World) -> None:
        world.hub.ends_as = stage

    return Fault(f"stage becomes {stage}", "restart", act, times=FOR_EVER)


@kind("stage is never RUNNING", "start")
def _never_running(draw: Draw) -> Fault:
    stage = draw.random.choice(("APP_STARTING", "SOMETHING_NEW", "SLEEPING"))

    def act(world: World) -> None:
        world.hub.ends_as = stage

    return Fault(f"stage stays {stage}", "restart", act, times=FOR_EVER, wake_timeout=3)


# the Hub --------------------------------------------------------------------------------------

TROUBLE: dict[str, tuple[hub.Fault, ...]] = {
    "refuses": (401, 403, 404),
    "answers 429": (429,),
    "answers 5xx": (500, 502, 503),
    "times out": ("hang", "mute"),
    "errs, yet does it": ("late",),
    "answers garbage": ("garbage",),
    "breaks off": ("cut",),
    "drips": ("drip",),
    "does not end": ("endless",),
}
HUB_SECONDS = 2.0  # the job's time-out for one call; see tests.support.quick_job
PATIENT = ("pause", "verify")  # refusals of these actions are retried too


def _hub_kind(action: str, trouble: str) -> None:
    @kind(f"Hub {trouble} on {action}", action)
    def _(draw: Draw) -> Fault:
        answer = draw.random.choice(TROUBLE[trouble])
        # only the first check of the stage, before the restart, can end the run
        number = draw.within(3) if action == "runtime" else 1
        count = draw.random.choice((1, 2, 3, 4, 6))
        fatal = trouble == "refuses" and action not in PATIENT
        passes = not fatal and (count < ATTEMPTS or (action == "runtime" and number > 1))
        where = action if number == 1 else f"{action} {number}"
        says = f"Hub {answer} on {where}, {times(count)}"
        of_the_wake = action not in PATIENT and answer in ("hang", "mute", "drip")
        takes = HUB_SECONDS if of_the_wake else 0.0
        return Fault(says, action, lambda world: answer, number, count, passes, takes)


for _action in ("restart", "runtime", *PATIENT):
    for _trouble in TROUBLE:
        _hub_kind(_action, _trouble)
TROUBLE["answers 4xx"] = (400, 409)
for _action in PATIENT:
    _hub_kind(_action, "answers 4xx")


@kind("Hub does not pause", "pause")
def _does_not_pause(draw: Draw) -> Fault:
    count = draw.random.choice((1, 2, FOR_EVER))
    says = f"Hub says yes to pause and does nothing, {times(count)}"
    return Fault(says, "pause", lambda world: "deaf", times=count, passes=count < ATTEMPTS)


@kind("Hub does not restart", "restart")
def _does_not_restart(draw: Draw) -> Fault:
    return Fault(
        "Hub says yes to restart and does nothing",
        "restart",
        lambda world: "deaf",
        times=FOR_EVER,
        wake_timeout=3,
    )


# the database ---------------------------------------------------------------------------------

DATABASE_MOMENTS = {
    "connect": 2, "statement": 60, "commit": 10, "committed": 10, "restart": 1, "health": 1,
    "batch": 3, "batch_done": 3, "pause": 1,
}  # fmt: skip


@kind("database drops its connections", "database")
def _database_drops(draw: Draw) -> Fault:
    moment, number = draw.moment(**DATABASE_MOMENTS)
    by_server = draw.random.random() < 0.5

    def act(world: World) -> None:
        if by_server:
            world.postgres.end_sessions(world.database)
        else:
            world.proxy.cut()

    says = f"database {'ends its sessions' if by_server else 'is cut off'} at {moment} {number}"
    return Fault(says, moment, act, number, passes=True)


@kind("database is gone for a second", "database")
def _database_gone_shortly(draw: Draw) -> Fault:
    moment, number = draw.moment(**DATABASE_MOMENTS)
    by_server = draw.random.random() < 0.5

    def act(world: World) -> None:
        if by_server:
            world.close_database()
            world.later(1.0, world.open_database)
        else:
            world.proxy.refuse()
            world.proxy.cut()
            world.later(1.0, world.proxy.accept)

    says = f"database {'refuses' if by_server else 'is gone'} 1 s from {moment} {number} on"
    return Fault(says, moment, act, number, passes=True)


@kind("database stays gone", "database")
def _database_gone(draw: Draw) -> Fault:
    moment, number = draw.moment(**DATABASE_MOMENTS)

    def act(world: World) -> None:
        world.proxy.refuse()
        world.proxy.cut()

    return Fault(f"database is gone for good at {moment} {number}", moment, act, number)


@kind("database stalls for a second", "database")
def _database_stalls_shortly(draw: Draw) -> Fault:
    moment, number = draw.moment(**DATABASE_MOMENTS)

    def act(world: World) -> None:
        world.proxy.stall()
        world.later(1.0, world.proxy.flow)

    return Fault(f"database stalls 1 s at {moment} {number}", moment, act, number, passes=True)


@kind("database stalls until SIGTERM", "signal")
def _database_stalls(draw: Draw) -> Fault:
    moment, number = draw.moment(**DATABASE_MOMENTS)

    def act(world: World) -> None:
        world.proxy.stall()
        world.later(2.0, lambda: world.runs[0].send(signal.SIGTERM))

    says = f"database stalls for good at {moment} {number}, SIGTERM 2 s later"
    return Fault(says, moment, act, number)


@kind("pgbouncer of transactions", "pooler", alone=True)
def _pooler(draw: Draw) -> Fault:
    size = draw.random.choice((1, 2, 5))
    says = f"pgbouncer pools {size} sessions by transaction"
    return Fault(says, "beginning", lambda world: world.pool(size))


# the process ----------------------------------------------------------------------------------

SIGNAL_MOMENTS = {
    "connect": 2, "statement": 60, "commit": 10, "committed": 10, "restart": 1, "runtime": 4,
    "health": 1, "batch": 3, "batch_sent": 3, "batch_done": 3, "pause": 1, "paused": 1, "verify": 1,
}  # fmt: skip


def _signal_kind(number: int, name: str) -> None:
    @kind(name, "signal")
    def _(draw: Draw) -> Fault:
        moment, nth = draw.moment(**SIGNAL_MOMENTS)
        delay = draw.random.choice((0.0, 0.0, 0.01, 0.05))
        again = draw.random.random() < 0.3 and number != signal.SIGKILL

        def act(world: World) -> None:
            run = world.runs[0]
            if delay:
                time.sleep(delay)
            run.send(number)
            if again:
                world.later(0.1, lambda: run.send(number))

        says = f"{name} at {moment} {nth}{f' + {delay} s' if delay else ''}"
        return Fault(f"{says}{', twice' if again else ''}", moment, act, nth)


for _number, _name in (
    (signal.SIGTERM, "SIGTERM"),
    (signal.SIGINT, "SIGINT"),
    (signal.SIGHUP, "SIGHUP"),
    (signal.SIGKILL, "SIGKILL"),
):
    _signal_kind(_number, _name)


ENDS_EARLY: dict[str, tuple[list[str], dict[str, str], int]] = {
    "a wrong setting": ([], {"KRONOS_HORIZON": "abc"}, 2),
    "a wrong option": (["--horizon", "none"], {}, 2),
    "no address of a database": ([], {"DATABASE_URL": "nonsense"}, 2),
    "a database that is away": ([], {"DATABASE_URL": "postgresql://me@127.0.0.1:9/k"}, 1),
    "a wrong name of the Space": ([], {"HF_SPACE_REPO": "nonsense"}, 2),
    "a wrong token": ([], {"HF_TOKEN": "hf_wrong"}, 2),
    "a source that is not there": (["--source", "csv:nowhere"], {}, 2),
    "a shard without tickers": (["--symbols", "AAPL", "--shard", "1/7"], {}, 0),
}


@kind("death before the wake", "signal", alone=True)
def _death_before_the_wake(draw: Draw) -> Fault:
    """Kill a run while its Space runs or starts; end the next run before it wakes the Space."""
    moment, number = draw.moment(health=1, batch=3, batch_done=2, runtime=3)
    name = draw.random.choice(list(ENDS_EARLY))
    arguments, settings, code = ENDS_EARLY[name]

    def act(world: World) -> None:
        # started first, so that it finds a live run: its start takes longer than the other's death
        world.start("second", *arguments, settings=settings, ends_with=code)
        world.runs[0].send(signal.SIGKILL)

    return Fault(f"SIGKILL at {moment} {number}, then a run with {name}", moment, act, number)


# several processes ----------------------------------------------------------------------------


@kind("two runs at once", "runs")
def _two_runs(draw: Draw) -> Fault:
    moment, number = draw.moment(
        connect=3, statement=60, restart=1, runtime=3, health=1, batch=3, batch_done=2, pause=1
    )

    def act(world: World) -> None:
        world.start("second")

    return Fault(f"another run begins at {moment} {number}", moment, act, number, passes=True)


@kind("two shards at once", "runs")
def _two_shards(draw: Draw) -> Fault:
    moment, number = draw.moment(
        connect=2, statement=60, restart=1, runtime=3, batch=2, batch_done=1, pause=1
    )

    def act(world: World) -> None:
        world.start("second", shard=Shard(1, 2))

    says = f"shard 1/2 begins at {moment} {number} of shard 0/2"
    return Fault(says, moment, act, number, passes=True, shard=Shard(0, 2))


# the candles ----------------------------------------------------------------------------------

HEADER = b"date,open,high,low,close,volume\n"
BAD_FILES: dict[str, bytes | None] = {
    "missing": None,
    "empty": b"",
    "bytes": bytes(range(256)) * 20,
    "a page": b"<html><body>404</body></html>\n",
    "without bars": HEADER,
    "with text for prices": HEADER + b"2024-03-08,1,2,one,1,1\n",
    "with dates of the future": HEADER + b"2199-01-01,1,2,1,1,1\n",
    "too short": HEADER + b"2024-03-07,1,2,1,1,1\n2024-03-08,1,2,1,1,1\n",
    "years old": HEADER
    + b"".join(b"2019-%02d-%02d,1,2,1,1,1\n" % (m, d) for m in (1, 2) for d in range(1, 28)),
    "with impossible prices": HEADER
    + b"".join(b"2024-%02d-%02d,-1,NaN,3,0,1\n" % (m, d) for m in (1, 2) for d in range(1, 28)),
}


def _bad_candles(draw: Draw, count: int) -> Fault:
    tickers = draw.random.sample(TICKERS, count)
    names = [draw.random.choice(list(BAD_FILES)) for _ in tickers]

    def act(world: World) -> None:
        for name, ticker in zip(names, tickers, strict=True):
            content, file = BAD_FILES[name], world.candle_file(ticker)
            if content is None:
                file.unlink()
            else:
                file.write_bytes(content)

    says = f"candles of {count} are {', '.join(sorted(set(names)))}"
    return Fault(says, "beginning", act, passes=True, bad_tickers=tuple(tickers))


@kind("a few bad histories", "candles")
def _few_bad(draw: Draw) -> Fault:
    return _bad_candles(draw, draw.random.randint(1, 4))


@kind("mostly bad histories", "candles")
def _mostly_bad(draw: Draw) -> Fault:
    return _bad_candles(draw, draw.random.randint(7, 11))
