"""Errors of a deployment.

HubError           the Hub is unreachable, or the Space does not start; the text is one line
└── HubRefused     the token, the name or a value is wrong: the user has to change it
"""

from kronos_space.error_messages import is_visible

LONGEST = 500  # characters of a message from outside


class HubError(Exception):
    """The Hub could not do what was requested."""


class HubRefused(HubError):
    """The Hub does not accept the token, the name or a value. A retry does not help."""


def printable(text: str) -> str:
    """Return `text` as one line, with control characters replaced by spaces."""
    return "".join(mark if is_visible(mark) else " " for mark in text)


def quoted(text: object) -> str:
    """Return a message from outside as one short line of visible characters."""
    line = " ".join(printable(str(text)[: 4 * LONGEST]).split())
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…"
