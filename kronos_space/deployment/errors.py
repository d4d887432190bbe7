"""How a deployment fails.

HubError           the Hub is out of reach, or the Space does not come up; its text is one line
└── HubRefused     the token, the name or a value is wrong: the user has to change it
"""

from kronos_space.error_messages import is_visible

LONGEST = 500  # characters of what somebody else says


class HubError(Exception):
    """The Hub could not do what was asked."""


class HubRefused(HubError):
    """The Hub does not accept the token, the name or a value; nothing but a change of it helps."""


def printable(text: str) -> str:
    """`text` in one line, with a space for each character that would control a terminal."""
    return "".join(mark if is_visible(mark) else " " for mark in text)


def quoted(text: object) -> str:
    """What somebody else says: one line, visible characters, not long."""
    line = " ".join(printable(str(text)[: 4 * LONGEST]).split())
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…"
