"""`python -m kronos_space`: run the service, or say in one line which package is missing."""

import sys
from collections.abc import Sequence
from pathlib import Path


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the service until it is stopped.

    Return 0 after an orderly stop, or 1 if a package that it needs is missing.
    """
    try:
        from kronos_space import process

        settings, listener = process.prepare(arguments)
        from kronos_space import serving  # loads torch, which takes seconds

        return serving.serve(settings, listener)
    except KeyboardInterrupt:
        return 0
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
