"""Write files atomically."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from errno import ELOOP
from pathlib import Path

from tradingbot.errors import ConfigError
from tradingbot.runtime.signals import signals_held


@contextmanager
def replaced(out: Path) -> Iterator[Path]:
    """Yield a temporary file next to `out`, and replace `out` with it at the end.

    A reader, such as a web server, sees either the complete old file or the complete new file.
    After an exception in the block the old file stays.

    Raises:
        ConfigError: The file cannot be written. If the folder is missing or refuses new files, the
            error is raised before the block runs.
    """
    try:
        target = out.resolve()  # replace the target of a symbolic link, not the link
        if target.is_symlink():  # a loop of links: `resolve` raises nothing in Python 3.13
            raise OSError(ELOOP, os.strerror(ELOOP))
        is_other = target.exists() and not target.is_file()
    except OSError as error:  # for example, the name is too long
        raise _unwritable(out, error) from error
    except RuntimeError as error:  # a loop of links, in Python versions before 3.13
        raise _unwritable(out, OSError(ELOOP, os.strerror(ELOOP))) from error
    if is_other:
        raise ConfigError(f"--out={str(out)!r} is not a file; expected one such as report.html")
    try:
        descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name[:40]}.")
    except OSError as error:
        raise _unwritable(out, error) from error
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)  # mkstemp creates files that only the owner can read
        temporary.replace(target)
    except OSError as error:
        raise _unwritable(out, error) from error
    finally:
        with signals_held():
            temporary.unlink(missing_ok=True)


def _unwritable(out: Path, error: OSError) -> ConfigError:
    return ConfigError(
        f"--out={str(out)!r} cannot be written: {error.strerror}; give a file in a folder that "
        "is there and writable"
    )
