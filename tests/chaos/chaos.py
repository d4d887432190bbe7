"""Run seeded schedules of faults on the whole job and check the invariants: `make chaos`.

    make chaos                                    # 300 schedules, and 60 with challengers
    make chaos CHAOS="--schedules 1 --seed 17"    # repeat one schedule
    python -m tests.chaos.chaos --help

Every schedule runs the job as a process, with the real huggingface_hub client, a test Hub, real
Space processes and a real Postgres behind a TCP proxy, while one to three faults happen. Then the
job runs once more without faults. The exit code is 0 if every invariant held.
"""

import argparse
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.chaos.challengers import FIRST_SEED, OTHER_KINDS, draw_with_challengers
from tests.chaos.faults import KINDS, Schedule, draw_schedule
from tests.chaos.invariants import (
    NAMES,
    Evidence,
    Tables,
    Violation,
    check_disturbed,
    check_further,
)
from tests.chaos.world import World, schema_template, write_models
from tests.support.postgres import Postgres, running_postgres

ATTEMPTS = 4  # for a schedule whose faults do not all happen, each attempt with earlier moments


@dataclass
class Outcome:
    """The result of one schedule."""

    schedule: Schedule
    codes: list[int] = field(default_factory=list)
    broken: list[Violation] = field(default_factory=list)
    seconds: float = 0.0
    folder: Path | None = None  # of the logs

    @property
    def fired(self) -> int:
        return sum(bool(fault.fired) for fault in self.schedule.faults)


class Chaos:
    """The resources that schedules share: a Postgres and a folder for logs."""

    def __init__(
        self,
        folder: Path,
        postgres: Postgres,
        template: str,
    ) -> None:
        self._folder = folder
        self._postgres = postgres
        self._template = template
        self._numbers = count()
        self._models = folder / "models"
        write_models(self._models)
        self.stopping = threading.Event()

    def run(self, seed: int) -> Outcome | None:
        """Run one schedule, with other moments until all its faults happen; None when stopped."""
        began = time.monotonic()
        for attempt in range(ATTEMPTS):
            if self.stopping.is_set():
                return None
            draw = draw_schedule if seed < FIRST_SEED else draw_with_challengers
            outcome = self.play(draw(seed, attempt))
            if {broken.name for broken in outcome.broken} != {"fired"}:
                break
        outcome.seconds = time.monotonic() - began
        return outcome

    def play(self, schedule: Schedule) -> Outcome:
        """Run the job with faults, once or in several processes, and then without faults."""
        folder = self._folder / f"{schedule.seed}-{schedule.attempt}-{next(self._numbers)}"
        outcome = Outcome(schedule, folder=folder)
        with World(
            schedule.faults,
            folder=folder,
            postgres=self._postgres,
            template=None if schedule.fresh else self._template,
            settings=schedule.settings,
            lineup=schedule.lineup,
            models=self._models,
        ) as world:
            for space in world.hub.spaces.values():
                if schedule.stage_before == "RUNNING":
                    space.start_now()
                space.stage = schedule.stage_before
            at_first = Tables(self._postgres, world.database)
            world.armed = True
            world.happens("beginning")
            world.start("first", shard=schedule.shard)
            world.wait()
            world.calm()
            world.settle()
            seen = Evidence(world, schedule.faults)
            between = Tables(self._postgres, world.database)
            outcome.broken += check_disturbed(seen, at_first, between)
            again = ["--force"] if schedule.force else []
            world.start("further", *again, settings={"KRONOS_WAKE_TIMEOUT": "20"})  # without faults
            world.wait()
            world.settle()
            at_last = Tables(self._postgres, world.database)
            outcome.broken += check_further(world, seen, between, at_last)
            outcome.codes = [run.code for run in world.runs]
        if not outcome.broken:
            shutil.rmtree(folder)
        return outcome


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    console = Console(highlight=False, soft_wrap=True)
    shutil.rmtree(options.logs, ignore_errors=True)
    options.logs.mkdir(parents=True)
    # as Ctrl-C, so that nothing is left running
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    began = time.monotonic()
    outcomes: list[Outcome] = []
    with ExitStack() as stack:
        postgres = stack.enter_context(running_postgres())
        template = stack.enter_context(schema_template(postgres))
        chaos = Chaos(options.logs.absolute(), postgres, template)
        pool = stack.enter_context(ThreadPoolExecutor(options.jobs))
        seeds = [*range(options.seed, options.seed + options.schedules)]
        first = FIRST_SEED + options.seed
        if options.seed < FIRST_SEED:
            more = options.challengers
            seeds += range(first, first + (options.schedules // 5 if more is None else more))
        futures = [pool.submit(chaos.run, seed) for seed in seeds]
        console.print(_HEADER, style="bold", markup=False)
        try:
            for future in as_completed(futures):
                if outcome := future.result():
                    outcomes.append(outcome)
                    _show(console, outcome)
        except KeyboardInterrupt:
            # a second Ctrl-C would leave processes running
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            console.print("Stopping: what is under way is finished first")
            chaos.stopping.set()
            pool.shutdown(cancel_futures=True)
    _summarise(console, outcomes, time.monotonic() - began)
    if chaos.stopping.is_set():
        return 130
    return 1 if any(outcome.broken for outcome in outcomes) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Run the job through seeded schedules of faults and check what it leaves.",
        epilog="Invariants: " + "; ".join(NAMES.values()) + ".",
    )
    whole = {"type": int, "metavar": "N"}
    parser.add_argument("--schedules", default=300, **whole, help="how many (%(default)s)")
    parser.add_argument("--seed", default=0, **whole, help="the first one's (%(default)s)")
    parser.add_argument(
        "--challengers",
        **whole,
        help=f"how many more with challengers, from seed {FIRST_SEED} on (a fifth of --schedules)",
    )
    jobs = max(2, (os.cpu_count() or 2) * 3 // 2)  # schedules mostly wait
    parser.add_argument("--jobs", default=jobs, **whole, help="at the same time (%(default)s)")
    parser.add_argument(
        "--logs",
        default=Path(".cache/chaos"),
        type=Path,
        metavar="DIR",
        help="emptied first; what failed is kept there (%(default)s)",
    )
    return parser


_HEADER = f"{'seed':>6}  {'fired':5}  {'exit':10}  {'sec':>5}  outcome  faults"


def _show(console: Console, outcome: Outcome) -> None:
    """Print a line for the schedule, then broken invariants and the command to repeat it."""
    schedule = outcome.schedule
    fired = f"{outcome.fired}/{len(schedule.faults)}"
    codes = ", ".join(map(str, outcome.codes))
    faults = "; ".join(fault.says for fault in schedule.faults)
    verdict = "BROKEN" if outcome.broken else "ok"
    console.print(
        f"{schedule.seed:>6}  {fired:5}  {codes:10}  {outcome.seconds:5.1f}  {verdict:7}  {faults}",
        markup=False,
        style="red" if outcome.broken else None,
    )
    for broken in outcome.broken:
        console.print(f"        {broken.name}: {broken.says}", markup=False)
    if outcome.broken:
        again = f'make chaos CHAOS="--schedules 1 --seed {schedule.seed}"'
        console.print(f"        logs in {outcome.folder}; again: {again}", markup=False)


def _summarise(console: Console, outcomes: Sequence[Outcome], seconds: float) -> None:
    table = Table(box=None, pad_edge=False)
    for name in ("Fault", "Schedules", "Fired", "Exit codes", "Broken"):
        table.add_column(name, justify="left" if name in ("Fault", "Exit codes") else "right")
    for kind in [*KINDS, *OTHER_KINDS]:
        with_it = [o for o in outcomes if kind in {f.kind for f in o.schedule.faults}]
        if not with_it:
            continue
        fired = sum(f.fired > 0 for o in with_it for f in o.schedule.faults if f.kind == kind)
        codes = " ".join(str(code) for code in sorted({o.codes[0] for o in with_it}))
        broken = sum(bool(o.broken) for o in with_it)
        table.add_row(kind, str(len(with_it)), str(fired), codes, str(broken))
    console.print()
    console.print(table)
    console.print()
    for name, promise in NAMES.items():
        held = sum(name not in _names(outcome.broken) for outcome in outcomes)
        console.print(f"{held:>4} of {len(outcomes)}  {promise}", markup=False)
    good = sum(not outcome.broken for outcome in outcomes)
    console.print(f"\n{good} of {len(outcomes)} schedules held, in {seconds:.0f} s", style="bold")


def _names(broken: Iterable[Violation]) -> set[str]:
    return {each.name for each in broken}


if __name__ == "__main__":
    sys.exit(main())
