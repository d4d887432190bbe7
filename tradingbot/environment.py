"""The environment variables of this process. No other module reads them."""

import os
from collections.abc import Iterator, Mapping


def environment(environ: Mapping[str, str] | None = None) -> Mapping[str, str]:
    """Return `environ`, by default the variables of this process.

    Strips trailing line ends and a leading byte order mark from the values, because secrets are
    often read from files.
    """
    return _Cleaned(os.environ if environ is None else environ)


class _Cleaned(Mapping[str, str]):
    """A view of the variables that cleans a value when it is read.

    Cleaning all values at once would be wasted work, because most callers read a single variable.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def __getitem__(self, name: str) -> str:
        return self._environ[name].lstrip("\ufeff").rstrip("\r\n")

    def __iter__(self) -> Iterator[str]:
        return iter(self._environ)

    def __len__(self) -> int:
        return len(self._environ)
