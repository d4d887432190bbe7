"""The grammar of events on paths, which both packages share."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kronos_space.path_events
import tradingbot.path_events
from tradingbot.path_events.grammar import MAX_EVENTS, parse_event, parse_events

PACKAGES = (kronos_space.path_events, tradingbot.path_events)


@pytest.mark.parametrize("name", ["__init__.py", "event_probabilities.py", "grammar.py"])
def test_both_packages_contain_the_same_module(name: str) -> None:
    files = [Path(package.__path__[0], name) for package in PACKAGES]
    assert files[0].read_text() == files[1].read_text()


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("touch +2%", "touch +2%"),
        ("  Touch 2 % ", "touch +2%"),
        ("touch \N{MINUS SIGN}1.50%", "touch -1.5%"),
        ("touch 105.50", "touch 105.5"),
        ("touch 1", "touch 1"),
        ("touch 999999999999", "touch 999999999999"),
        ("touch 0.00000001", "touch 0.00000001"),
        ("close above 0%", "close above 0%"),
        ("close above -0%", "close above 0%"),
        ("CLOSE  BELOW 99", "close below 99"),
        ("return between -1% and 1%", "return between -1% and +1%"),
        ("reach +3% before -2%", "reach +3% before -2%"),
        ("reach 97 before 104", "reach 97 before 104"),
        ("drawdown above 5%", "drawdown above 5%"),
        ("range above 4.25%", "range above 4.25%"),
    ],
)
def test_an_events_name_parses_to_the_same_event(text: str, name: str) -> None:
    event = parse_event(text)
    assert str(event) == name
    assert parse_event(name) == event


@given(
    digits=st.from_regex(r"[0-9]{1,12}(\.[0-9]{1,8})?", fullmatch=True).filter(
        lambda text: float(text)
    )
)
def test_a_price_level_is_written_as_its_shortest_decimal(digits: str) -> None:
    expected = np.format_float_positional(float(digits), trim="-")
    assert str(parse_event(f"touch {digits}")) == f"touch {expected}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "touch LEVEL"),
        ("tuch +2%", "touch LEVEL"),
        ("touch", "touch LEVEL"),
        ("touch -5", "touch LEVEL"),
        ("touch 1e3", "touch LEVEL"),
        ("touch nan", "touch LEVEL"),
        ("touch " + "9" * 5000, "…"),
        ("close above +2% please", "touch LEVEL"),
        ("return between 99 and 101", "a MOVE is from the last close"),
        ("drawdown above 7", "a SIZE such as 5%"),
        ("touch 0", "prices above 0"),
        ("touch 0%", "the price is already there"),
        ("range above 0%", "the price is already there"),
        ("touch -100%", "above -100%"),
        ("touch +10001%", "up to 10000%"),
        ("drawdown above 100%", "between 0% and 100%"),
        ("return between +1% and -1%", "the smaller move first"),
        ("reach +3% before +2%", "one move up and one down"),
    ],
)
def test_invalid_event_text_is_refused_with_what_is_expected(text: str, expected: str) -> None:
    with pytest.raises(ValueError, match=r"^event ") as refused:
        parse_event(text)
    assert expected in str(refused.value)
    assert len(str(refused.value)) < 500


def test_events_are_a_list_or_a_text_without_duplicates_and_limited_in_number() -> None:
    listed = parse_events(["touch +2%", "close above 0%", "touch 2%"])
    assert [*map(str, listed)] == ["touch +2%", "close above 0%"]
    assert parse_events(" touch 2% , close above 0%,") == listed
    assert parse_events("") == ()
    with pytest.raises(ValueError, match=f"expected at most {MAX_EVENTS}; a second request"):
        parse_events([f"touch +{n}%" for n in range(1, MAX_EVENTS + 2)])
    assert parse_events("touch 2%, reach 3% before -1%", prices=False)
    for text in ("touch 105", "reach +3% before 90"):
        with pytest.raises(ValueError, match=r"expected moves such as .2%, not a price"):
            parse_events(text, prices=False)
    with pytest.raises(ValueError, match="event 5: expected a text"):
        parse_events([5])  # type: ignore[list-item]


@pytest.mark.parametrize(
    "text", ["reach 105 before 103", "reach 100 before 90", "reach 90 before 95"]
)
def test_touch_levels_must_be_on_both_sides_of_the_last_close(text: str) -> None:
    with pytest.raises(ValueError, match="one level above and one below the last close, 100"):
        parse_event(text).check(100.0)
    parse_event("reach 105 before 95").check(100.0)
    parse_event("touch 100").check(100.0)
