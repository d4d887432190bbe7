"""The notes of runs about several Spaces, in one row each."""

from functools import partial
from typing import Any

import pytest

from tradingbot.persistence.engine import get_db_session
from tradingbot.persistence.monitoring_queries import space_is_awake
from tradingbot.persistence.run_log import RunLogWriter, SpaceNotes
from tradingbot.persistence.space_notes import newest_notes, notes_in, with_note
from tradingbot.runtime.clock import utcnow

CHAMPION, CHALLENGER = "me/champion", "me/challenger"


def test_each_space_keeps_its_newest_note_also_after_the_end(sqlite_url: str) -> None:
    sessions = partial(get_db_session, sqlite_url)
    row = RunLogWriter.begin(sessions, started_at=utcnow(), details={"shard": "0/1"})
    notes = SpaceNotes(sessions)
    for repo in (CHAMPION, CHALLENGER):
        row.note_woken(repo, True)
    row.note_woken(CHAMPION, False)
    facts: dict[str, Any] = {"counts": {}, "durations": {}, "exit_code": 0, "message": None}
    row.end(**facts, details={"model": "nano"})
    assert (notes.woke(CHAMPION), notes.woke(CHALLENGER)) == (False, True)
    assert (row.woke(CHAMPION), row.woke(CHALLENGER)) == (False, True)
    with sessions() as session:
        assert space_is_awake(session)
    notes.note_woken(CHALLENGER, False)
    assert not notes.woke(CHALLENGER)
    with sessions() as session:
        assert not space_is_awake(session)


@pytest.mark.parametrize(
    "damaged",
    [{"space": 5}, {"space": {}}, {"other_spaces": {"a": 1}}, {"other_spaces": [None, 5, {}]}],
)
def test_damaged_notes_are_left_out(damaged: dict[str, Any]) -> None:
    note = {"repo": CHAMPION, "woken": True, "at": "2024-03-08T22:00:00"}
    assert notes_in(damaged) == {}
    assert newest_notes([damaged, with_note(damaged, note)]) == {CHAMPION: note}
