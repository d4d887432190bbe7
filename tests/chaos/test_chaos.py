"""Some schedules of `make chaos`, and a test that violations are detected."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from random import Random

import pytest

from tests.chaos.challengers import FIRST_SEED, OTHER_KINDS, draw_with_challengers
from tests.chaos.chaos import Chaos, Outcome
from tests.chaos.faults import KINDS, Fault, Schedule, draw_schedule
from tests.chaos.world import World, schema_template
from tests.support.postgres import running_postgres

MAIN = (
    "Space dies mid-batch",
    "Hub refuses on pause",
    "database drops its connections",
    "SIGTERM",
    "SIGKILL",
    "two runs at once",
)
OF_CHALLENGERS = ("challenger's Space dies", "Hub answers 4xx on pause of a challenger")


def seed_of(kind: str) -> int:
    """Return the first seed whose main fault is of this kind."""
    if kind in KINDS:
        return list(KINDS).index(kind)
    first = FIRST_SEED - FIRST_SEED % len(OTHER_KINDS) + len(OTHER_KINDS)
    return first + list(OTHER_KINDS).index(kind)


@pytest.fixture(scope="module")
def chaos(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chaos]:
    with (
        running_postgres() as postgres,
        schema_template(postgres) as template,
    ):
        yield Chaos(tmp_path_factory.mktemp("chaos"), postgres, template)


@pytest.fixture(scope="module")
def outcomes(chaos: Chaos) -> dict[str, Outcome]:
    """Run the schedules in parallel, since they mostly wait."""
    with ThreadPoolExecutor(3) as pool:
        kinds = (*MAIN, *OF_CHALLENGERS)
        done = pool.map(chaos.run, map(seed_of, kinds))
        return {kind: outcome for kind, outcome in zip(kinds, done, strict=True) if outcome}


@pytest.mark.parametrize("kind", [*MAIN, *OF_CHALLENGERS])
def test_invariants_hold_under_every_kind_of_fault(outcomes: dict[str, Outcome], kind: str) -> None:
    outcome = outcomes[kind]
    assert not outcome.broken, (outcome.broken, outcome.schedule)
    assert kind in {fault.kind for fault in outcome.schedule.faults if fault.fired}


def test_a_space_left_running_lost_rows_and_faults_that_never_fire_are_caught(chaos: Chaos) -> None:
    def lose(world: World) -> None:
        deadline = time.monotonic() + 20
        lost: list[tuple[str]] = []
        # a row of the first batch, which is stored early
        while not lost and time.monotonic() < deadline:
            lost = world.postgres.execute(
                "DELETE FROM kronos_predictions WHERE symbol = 'AAPL' RETURNING symbol",
                database=world.database,
            )

    vandal = Fault("rows vanish", "batch done", lose, number=3, passes=True)
    absent = Fault("never", "batch", lambda world: 500, number=99)
    schedule = Schedule(0, 0, [vandal, absent], settings={"KRONOS_PAUSE": "never"})
    broken = {each.name for each in chaos.play(schedule).broken}
    assert broken >= {"fired", "rows", "survived", "running"}


def test_a_seed_always_gives_the_same_schedule_and_every_kind_has_seeds() -> None:
    def told(seed: int) -> list[str]:
        return [fault.says for fault in draw_schedule(seed).faults]

    seeds = Random(1).sample(range(10_000), 20)
    assert [told(seed) for seed in seeds] == [told(seed) for seed in seeds]
    first = {draw_schedule(seed).faults[0].kind for seed in range(len(KINDS))}
    assert first == set(KINDS)
    seeds = range(FIRST_SEED, FIRST_SEED + len(OTHER_KINDS))
    schedules = [draw_with_challengers(seed) for seed in seeds]
    assert {schedule.faults[0].kind for schedule in schedules} == set(OTHER_KINDS)
    assert all(schedule.lineup for schedule in schedules)
