"""Files that are written whole or not at all."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tradingbot.errors import ConfigError
from tradingbot.runtime.signals import signals_held


@contextmanager
def replaced(out: Path) -> Iterator[Path]:
    """Yield a file beside `out` to write to, and put it in the place of `out` at the end.

    A reader, or a web server, finds the old file or the new one, whole. After an exception the
    old one stays.

    Raises:
        ConfigError: No file can be written there; raised before anything else is done.
    """
    target = out.resolve()  # what a link points to is replaced, not the link
    if target.exists() and not target.is_file():
        raise ConfigError(f"--out={str(out)!r} is no file; expected one such as report.html")
    try:
        descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    except OSError as error:
        raise _unwritable(out, error) from error
    os.close(descriptor)
    beside = Path(name)
    try:
        yield beside
        beside.chmod(0o644)  # mkstemp's are for their owner alone
        beside.replace(target)
    except OSError as error:
        raise _unwritable(out, error) from error
    finally:
        with signals_held():
            beside.unlink(missing_ok=True)


def _unwritable(out: Path, error: OSError) -> ConfigError:
    return ConfigError(
        f"--out={str(out)!r} cannot be written: {error.strerror}; give a file in a folder that "
        "is there and writable"
    )
