"""`python -m kronos_space`: the service as a process, or one line on what is not installed."""

import sys
from collections.abc import Sequence
from pathlib import Path


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until told to stop; 1 where a package is missing that the service needs."""
    try:
        from kronos_space import process

        return process.main(arguments)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package == "kronos_space":
            raise
        needed = Path(__file__).with_name("requirements.txt")
        print(  # noqa: T201
            f"kronos_space: the package {package} is not installed: pip install -r {needed}",
            file=sys.stderr,
        )
        return 1


if __name__ == "__main__":
    sys.exit(main())
