"""Notes in run_logs about the Spaces that runs woke: `details["space"]`, `details["other_spaces"]`.

`details["space"]` is about the first Space that a run noted. That is the champion's Space, if the
champion has one.
"""

from collections.abc import Iterable, Mapping
from typing import Any

Note = Mapping[str, Any]  # repo, woken (whether it runs because a run woke it), at


def notes_in(details: Mapping[str, Any]) -> dict[str, Note]:
    """Return the notes of one run, by the Space's name."""
    others = details.get("other_spaces")
    notes = [details.get("space"), *(others if isinstance(others, list) else [])]
    return {note["repo"]: note for note in notes if isinstance(note, dict) and "repo" in note}


def with_note(details: Mapping[str, Any], note: Note) -> dict[str, Any]:
    """Return the details with this note. It replaces an earlier note about the same Space."""
    notes = {**notes_in(details), note["repo"]: note}
    first, *others = notes.values()
    return {**details, "space": first, **({"other_spaces": others} if others else {})}


def newest_notes(runs: Iterable[Mapping[str, Any]]) -> dict[str, Note]:
    """Return the newest note about each Space in the details of several runs."""
    newest: dict[str, Note] = {}
    for details in runs:
        for repo, note in notes_in(details).items():
            if repo not in newest or str(note.get("at")) > str(newest[repo].get("at")):
                newest[repo] = note
    return newest
