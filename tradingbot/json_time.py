"""A time for the `attrs` of a pandas DataFrame.

pandas writes `attrs` to Parquet as JSON, and JSON has no type for a datetime.
"""

import operator
from collections.abc import Callable
from datetime import datetime
from typing import Any


def _comparison(compare: Callable[[Any, Any], bool]) -> Any:
    def compared(self: "JsonTime", other: object) -> bool:
        if isinstance(other, datetime):
            return compare(self.time, other)
        return compare(str(self), str(other)) if isinstance(other, str) else NotImplemented

    return compared


class JsonTime(str):
    """The ISO text of a datetime. It compares, subtracts and formats like the datetime."""

    __slots__ = ()

    def __new__(cls, time: datetime | str) -> "JsonTime":
        return super().__new__(cls, time.isoformat(" ") if isinstance(time, datetime) else time)

    __eq__ = _comparison(operator.eq)
    __ne__ = _comparison(operator.ne)
    __lt__ = _comparison(operator.lt)
    __le__ = _comparison(operator.le)
    __gt__ = _comparison(operator.gt)
    __ge__ = _comparison(operator.ge)
    __hash__ = str.__hash__

    @property
    def time(self) -> datetime:
        return datetime.fromisoformat(self)

    def __str__(self) -> str:
        return "".join(self)

    def __getattr__(self, name: str) -> Any:
        """Return attributes of the datetime: `year`, `date()`, `strftime(…)`."""
        return getattr(self.time, name)

    def __format__(self, spec: str) -> str:
        return format(self.time if "%" in spec else str(self), spec)

    def __sub__(self, other: Any) -> Any:
        return self.time - other

    def __rsub__(self, other: Any) -> Any:
        return other - self.time

    def __add__(self, other: Any) -> Any:
        return str(self) + other if isinstance(other, str) else self.time + other
