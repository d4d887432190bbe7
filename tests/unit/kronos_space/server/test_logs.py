"""Log lines are text for people or JSON for machines, as configured."""

import json
import logging
import sys

from kronos_space.server.logs import JsonLines


def record(message: str, *arguments: object, **extra: object) -> logging.LogRecord:
    made = logging.LogRecord("kronos_space", logging.INFO, __file__, 1, message, arguments, None)
    made.__dict__.update(extra)
    return made


def test_a_json_line_has_time_level_message_and_the_requests_fields() -> None:
    line = JsonLines().format(record("GET %s", "/health", status=200, ms=3, request_id="abc"))

    read = json.loads(line)
    assert read.pop("time").endswith("+00:00")
    assert read == {
        "level": "INFO",
        "message": "GET /health",
        "status": 200,
        "ms": 3,
        "request_id": "abc",
    }


def test_a_stack_trace_stays_in_the_same_line() -> None:
    try:
        raise ValueError("two\nlines")
    except ValueError:
        failed = record("failed", exc_info=sys.exc_info())

    line = JsonLines().format(failed)

    assert "\n" not in line
    assert "ValueError: two\nlines" in json.loads(line)["exception"]
