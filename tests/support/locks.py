"""Read requirement files with hashes, as pip does with --require-hashes."""

import re
from pathlib import Path

from packaging.utils import canonicalize_name

ENTRY = re.compile(r"([\w.-]+)==([\w.+!-]+)((?: \\\n {4}--hash=sha256:[0-9a-f]{64})+)\n")


def locked(file: Path) -> dict[str, str]:
    """Return package -> version. Raises AssertionError for a line that is no hashed entry or
    comment.
    """
    text = "".join(
        line for line in file.read_text().splitlines(keepends=True) if not line.startswith("#")
    )
    entries = list(ENTRY.finditer(text))
    assert "".join(entry[0] for entry in entries) == text, f"{file}: not all of it has a hash"
    return {canonicalize_name(entry[1]): entry[2] for entry in entries}


def pinned(file: Path) -> dict[str, str]:
    """Return package -> version of a file without hashes."""
    lines = [line for line in file.read_text().splitlines() if line and line[0] != "#"]
    parts = [line.partition("==") for line in lines]
    return {canonicalize_name(name): version.strip() for name, _, version in parts}
