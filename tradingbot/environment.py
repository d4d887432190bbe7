"""The environment variables of this process. No other module reads them."""

import os
from collections.abc import Mapping


def environment(environ: Mapping[str, str] | None = None) -> Mapping[str, str]:
    """Return `environ`, by default the variables of this process.

    Strips trailing line ends and a leading byte order mark from the values, because secrets are
    often read from files.
    """
    environ = os.environ if environ is None else environ
    return {name: value.lstrip("\ufeff").rstrip("\r\n") for name, value in environ.items()}
