"""Parsing the log of a Space line by line."""

import pytest

from tradingbot.space.log_lines import parse_line


@pytest.mark.parametrize(
    ("line", "parsed"),
    [
        ('{"level": "CRITICAL", "message": "no model"}', ("CRITICAL", "no model")),
        (
            '{"level": "ERROR", "message": "it broke", "exception": "Trace\\nValueError: 7"}',
            ("ERROR", "it broke\nTrace\nValueError: 7"),
        ),
        ("kronos_space: no model", (None, "kronos_space: no model")),
        ('{"not": "an entry"}', (None, '{"not": "an entry"}')),
        ("[1, 2]", (None, "[1, 2]")),
        ("", (None, "")),
    ],
)
def test_a_json_log_line_gives_level_and_message_and_any_other_line_its_text(
    line: str, parsed: tuple[str | None, str]
) -> None:
    assert parse_line(line) == parsed
