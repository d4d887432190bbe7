"""The environment variables of this process. No other module reads them."""

import os
from collections.abc import Iterator, Mapping


def environment(environ: Mapping[str, str] | None = None) -> Mapping[str, str]:
    """Return `environ`, by default the variables of this process, with cleaned values.

    A cleaned value has no trailing line end and no leading byte order mark. Files often contain
    both, and secrets are often read from files.
    """
    return _Cleaned(os.environ if environ is None else environ)


class _Cleaned(Mapping[str, str]):
    """A view of the variables that cleans a value when it is read.

    Most callers read a single variable, so cleaning all values at once would waste time.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def __getitem__(self, name: str) -> str:
        return self._environ[name].lstrip("\ufeff").rstrip("\r\n")

    def __iter__(self) -> Iterator[str]:
        return iter(self._environ)

    def __len__(self) -> int:
        return len(self._environ)
