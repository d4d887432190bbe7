"""Log lines: text for people, or one JSON object per line for log collectors.

The fields `time`, `level`, `message` and `exception` have the same names in a Space's log. This
module imports no slow library, because a log line may be needed before the slow imports are done.
"""

import logging
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

import orjson

from tradingbot.errors import ConfigError
from tradingbot.runtime.printable import escaped, printable, shortened

LogFormat = Literal["text", "json"]

VARIABLES = {
    "KRONOS_LOG_FORMAT": "`text`, `json`, or `auto`, the default: `json` in a Kubernetes pod"
}


def log_format(given: str | None, environ: Mapping[str, str]) -> LogFormat:
    """Return the format requested by `--log-format`, or else by KRONOS_LOG_FORMAT.

    "auto", the default, is JSON in a Kubernetes pod, but text on a terminal.

    Raises:
        ConfigError: The value is invalid.
    """
    name = "KRONOS_LOG_FORMAT" if given is None else "--log-format"
    text = environ.get(name, "").strip() or "auto" if given is None else given
    match text:
        case "text" | "json":
            return text
        case "auto":
            terminal = sys.stderr is not None and sys.stderr.isatty()
            return "json" if "KUBERNETES_SERVICE_HOST" in environ and not terminal else "text"
    raise ConfigError(f"{name}={text!r}: expected auto, text or json")


def likely_log_format(arguments: Sequence[str], environ: Mapping[str, str]) -> LogFormat:
    """Return the log format for messages before the arguments are parsed.

    The format also applies if parsing the arguments fails.
    """
    given = None
    for this, following in zip(arguments, [*arguments[1:], ""], strict=False):
        if this == "--log-format":
            given = following
        elif this.startswith("--log-format="):
            given = this.partition("=")[2]
    try:
        return log_format(given, environ)
    except ConfigError:
        return "text"


class JsonFormatter(logging.Formatter):
    """Format a record as one JSON object: time (UTC), level, event, step, message, further fields.

    The further fields of a record of `log_line` are the fields passed to that function. The further
    fields of any other record are `logger` (its name), `symbol` (the ticker that the record
    concerns, if known) and `exception` (the stack trace, if the record has one).

    Attributes:
        step: The current step of the job, or None.
    """

    def __init__(self) -> None:
        super().__init__()
        self.step: str | None = None

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "event": getattr(record, "event", "note"),
            "step": self.step,
            "message": message_of(record),
        }
        return to_json(line | getattr(record, "fields", _fields_of(record)))


def _fields_of(record: logging.LogRecord) -> dict[str, Any]:
    fields: dict[str, Any] = {"logger": record.name}
    if symbol := getattr(record, "symbol", None):
        fields["symbol"] = symbol
    if record.exc_info:
        fields["exception"] = traceback_of(record)
    return fields


def message_of(record: logging.LogRecord) -> str:
    """Return the message of a record. A library's message is shortened."""
    message = printable(record.getMessage())
    ours = record.name is None or record.name.startswith("tradingbot")
    return message if ours else shortened(message)


def traceback_of(record: logging.LogRecord) -> str:
    """Return the stack trace of a record that has one."""
    assert record.exc_info
    trace = printable(logging.Formatter().formatException(record.exc_info))
    return "\n".join(map(shortened, trace.splitlines()))


def log_line(
    level: str,
    message: str,
    *,
    event: str = "note",
    formatter: JsonFormatter | None = None,
    **fields: Any,
) -> str:
    """Return one JSON object: time (UTC), level, event, step, message, and `fields`."""
    record = {"levelname": level, "msg": message, "event": event, "fields": fields}
    return (formatter or JsonFormatter()).format(logging.makeLogRecord(record))


def to_json(value: Any) -> str:
    """Return valid JSON in one line. NaN and infinity become null."""
    try:
        return escaped(orjson.dumps(value, default=_plain, option=_OPTIONS).decode())
    except orjson.JSONEncodeError:  # an unpaired surrogate, or a number beyond 64 bits
        return escaped(
            orjson.dumps(_representable(value), default=_plain, option=_OPTIONS).decode()
        )


_OPTIONS = orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY


def _plain(value: Any) -> Any:
    """Convert a value that orjson does not support."""
    match value:
        case datetime():  # orjson supports datetime, but not its subclasses
            return value.isoformat()
        case float():
            return float(value)
        case Mapping():
            return dict(value)
        case set() | frozenset():
            return list(value)
    raise TypeError(f"{type(value).__name__} is not JSON")


def _representable(value: Any) -> Any:
    """Replace the parts of a value that orjson cannot write.

    An unpaired surrogate becomes "?", and an integer beyond 64 bits becomes text.
    """
    match value:
        case str():
            return value.encode(errors="replace").decode()
        case bool():
            return value
        case int():
            return value if -(2**63) <= value < 2**64 else str(value)
        case Mapping():
            return {_representable(key): _representable(item) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_representable(item) for item in value]
    return value
