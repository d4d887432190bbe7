"""The variables of this process. No other module reads them."""

import os
from collections.abc import Mapping


def environment(environ: Mapping[str, str] | None = None) -> Mapping[str, str]:
    """Return `environ`, by default the variables of this process.

    Without what a file has besides its text, for secrets often come from one: line ends, and the
    mark of its byte order that Windows puts first.
    """
    environ = os.environ if environ is None else environ
    return {name: value.lstrip("\ufeff").rstrip("\r\n") for name, value in environ.items()}
