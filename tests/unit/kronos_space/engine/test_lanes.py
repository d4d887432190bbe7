"""Lanes do several works at once, each with its share of the threads."""

import threading

import pytest
import torch

from kronos_space.engine import lanes as lanes_module
from kronos_space.engine.lanes import Handover, Lanes, Steps

PATIENCE = 30.0  # seconds that a work waits for another


def result_of(steps: Steps[list[object]]) -> list[object]:
    while True:
        try:
            next(steps)
        except StopIteration as end:
            found: list[object] = end.value
            return found


def counting(steps: int, name: str) -> Steps[str]:
    for _ in range(steps):
        yield
    return name


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_results_are_in_the_order_of_the_works(threads: int) -> None:
    works = [counting(5, "a"), counting(0, "b"), counting(2, "c")]

    assert result_of(Lanes(threads).together(works, threads)) == ["a", "b", "c"]


def test_works_advance_at_once() -> None:
    meeting = threading.Barrier(2)

    def meets() -> Steps[None]:
        for _ in range(3):
            meeting.wait(PATIENCE)
            yield

    result_of(Lanes(2).together([meets(), meets()], 2))


@pytest.mark.parametrize("turn", [0.0, 0.05])
def test_a_work_waits_for_what_another_passes_to_it(
    turn: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes_module, "TURN", turn)
    handover: Handover[int] = Handover()

    def takes() -> Steps[list[int]]:
        first = yield from handover.take()
        second = yield from handover.take()
        return [first, second]

    def puts() -> Steps[None]:
        for number in (1, 2):
            yield
            handover.put(number)

    assert result_of(Lanes(2).together([takes(), puts()], 2)) == [[1, 2], None]


def test_fewer_threads_than_works_do_one_after_the_other() -> None:
    done = []

    def writes(name: str) -> Steps[None]:
        done.append(name)
        yield
        done.append(name)

    result_of(Lanes(2).together([writes("a"), writes("b")], 1))

    assert done == ["a", "a", "b", "b"]


@pytest.mark.parametrize(("threads", "works", "share"), [(2, 2, 1), (5, 2, 2), (8, 2, 4)])
def test_each_work_has_its_share_of_the_threads(threads: int, works: int, share: int) -> None:
    before = torch.get_num_threads()

    def counts() -> Steps[int]:
        yield
        return torch.get_num_threads()

    found = result_of(Lanes(threads).together([counts() for _ in range(works)], threads))

    assert found == [share] * works
    assert torch.get_num_threads() == before


def test_a_work_can_itself_be_split() -> None:
    lanes = Lanes(4)

    def split(name: str) -> Steps[list[object]]:
        return (yield from lanes.together([counting(3, name), counting(1, name)], 2))

    assert result_of(lanes.together([split("a"), split("b")], 4)) == [["a", "a"], ["b", "b"]]


def test_works_compute_without_gradients() -> None:
    def asks() -> Steps[bool]:
        yield
        return torch.is_inference_mode_enabled()

    assert result_of(Lanes(2).together([asks(), asks()], 2)) == [True, True]


def endless(ended: list[str]) -> Steps[str]:
    try:
        while True:
            yield
    finally:
        ended.append("closed")


def test_a_failure_ends_all_works_and_is_raised() -> None:
    ended: list[str] = []

    def ends() -> Steps[str]:
        yield
        yield
        raise ArithmeticError("lane 2")

    with pytest.raises(ArithmeticError, match="lane 2"):
        result_of(Lanes(2).together([endless(ended), ends()], 2))

    assert ended == ["closed"]


def test_closing_the_steps_ends_all_works() -> None:
    ended: list[str] = []
    steps = Lanes(2).together([endless(ended), endless(ended)], 2)

    next(steps)
    assert ended == []
    steps.close()

    assert ended == ["closed", "closed"]
