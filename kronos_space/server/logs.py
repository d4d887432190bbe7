"""Log lines: text for a terminal, or one JSON object per line for log collectors."""

import json
import logging
from datetime import UTC, datetime

TEXT = "%(asctime)s %(levelname)s %(message)s"
FIELDS = ("method", "route", "status", "ms", "request_id")  # fields added to a request's line


def configure(log_format: str) -> None:
    """Configure all loggers: INFO and above to stderr, as "text" or "json"."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if log_format == "json" else logging.Formatter(TEXT))
    logging.basicConfig(handlers=[handler], level=logging.INFO)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)


def message_of(line: str) -> str:
    """Return the message of a JSON log line; return other lines unchanged."""
    try:
        return str(json.loads(line)["message"])
    except (ValueError, KeyError, TypeError):
        return line


class JsonLines(logging.Formatter):
    """Formats time (UTC), level, message, a request's fields, and a traceback if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "message": record.getMessage(),
        }
        line |= {name: getattr(record, name) for name in FIELDS if hasattr(record, name)}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)
