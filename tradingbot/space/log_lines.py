"""The log lines of a Space: one JSON object per line, or plain text."""

import json


def parse_line(line: str) -> tuple[str | None, str]:
    """Return the level and text of a JSON log line, or None and the line itself.

    The text is the message, followed by the stack trace if there is one.
    """
    try:
        entry = json.loads(line)
        level, text = str(entry["level"]), str(entry["message"])
    except (ValueError, KeyError, TypeError):
        return None, line
    if "exception" in entry:
        text += f"\n{entry['exception']}"
    return level, text
