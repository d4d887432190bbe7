"""Background threads of the program."""

import threading

import pytest

from tradingbot.runtime.concurrency import read_ahead


def test_the_next_item_is_read_while_one_is_worked_on() -> None:
    started = {item: threading.Event() for item in "abc"}

    def read(item: str) -> str:
        started[item].set()
        return item.upper()

    found = []
    for item, result in read_ahead(read, "abc"):
        found.append((item, result))
        for following in "abc"["abc".index(item) + 1 :][:1]:
            assert started[following].wait(10)
    assert found == [("a", "A"), ("b", "B"), ("c", "C")]
    assert list(read_ahead(read, "")) == []


def test_an_item_that_cannot_be_read_raises_after_those_before_it() -> None:
    pairs = read_ahead(lambda number: 1 / number, [2, 1, 0, 3])
    assert [next(pairs), next(pairs)] == [(2, 0.5), (1, 1.0)]
    with pytest.raises(ZeroDivisionError):
        next(pairs)
