"""Nights of the real job on the sample, whose clock a longer horizon puts back by a session."""

from pathlib import Path

from tests.support.command_line import kronosbot


def three_nights(folder: Path, *, space_url: str, database: str) -> None:
    """Run kronosbot as of three sessions, one after the other; the outcomes are known."""
    for horizon in ("8", "7", "6"):
        done = kronosbot(
            "run", "--source", "sample", "--samples", "20", "--horizon", horizon, folder=folder,
            DATABASE_URL=database, KRONOS_SPACE_URL=space_url,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
