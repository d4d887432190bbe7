"""Run the real job on the sample for several nights."""

from pathlib import Path

from tests.support.command_line import kronosbot


def three_nights(folder: Path, *, space_url: str, database: str) -> None:
    """Run kronosbot as of three consecutive sessions whose outcomes are known."""
    for horizon in ("8", "7", "6"):
        done = kronosbot(
            "run", "--source", "sample", "--samples", "20", "--horizon", horizon, folder=folder,
            DATABASE_URL=database, KRONOS_SPACE_URL=space_url,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
