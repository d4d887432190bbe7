"""Lines of a log: text for a person, or one JSON object a line for what collects them.

The names of the fields that a Space's lines have too (`time`, `level`, `message`, `exception`) are
the same there. Nothing heavy is imported: the first line may be due before anything else is.
"""

import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

from tradingbot.errors import ConfigError

LogFormat = Literal["text", "json"]


def log_format(given: str | None, environ: Mapping[str, str] = os.environ) -> LogFormat:
    """What `--log-format`, else KRONOS_LOG_FORMAT, asks for; ConfigError if it is nonsense.

    "auto", the default, is JSON in a Kubernetes pod, but text where a person looks on.
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


def likely_log_format(arguments: Sequence[str]) -> LogFormat:
    """The same before the arguments are parsed, or where they cannot be."""
    given = None
    for this, following in zip(arguments, [*arguments[1:], ""], strict=False):
        if this == "--log-format":
            given = following
        elif this.startswith("--log-format="):
            given = this.partition("=")[2]
    try:
        return log_format(given)
    except ConfigError:
        return "text"


def log_line(
    level: str, message: str, *, event: str = "note", step: str | None = None, **fields: Any
) -> str:
    """One JSON object: time (UTC), level, event, step, message, then what `fields` adds."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    return to_json(
        {"time": now, "level": level, "event": event, "step": step, "message": message, **fields}
    )


def to_json(value: Any) -> str:
    """JSON in one line that every reader takes: NaN and infinity, which it lacks, are null."""
    return json.dumps(_plain(value), ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return value
