"""Fail on phrases that a reader has to work out, and name a plain alternative.

`make lint` runs it over all text files of the project. Add a phrase to PHRASES when a review finds
it twice.
"""

import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
KINDS = {
    ".css", ".html", ".j2", ".js", ".md", ".py", ".service", ".sh", ".timer", ".toml", ".tpl",
    ".yaml", ".yml", "",
}  # fmt: skip
FROZEN = ("tests/data/", "scripts/words.py", "tests/unit/test_words.py")  # examples, and the list

# Regular expressions, without regard to case. A blank matches any white space and an underscore, so
# that a phrase is also found across two lines, in a comment of several lines and in a name.
PHRASES = {
    r"anew": "again",
    r"(?:can|cannot|could|could not|to|not) be had": "available / not available",
    r"for who\b(?! is| are)": "for those who, for users who",
    r"what came(?! from| with| before)": "the outcome, the realised close",
    r"whoever": "anyone who, the caller, the user",
    r"it is late": "it reacts with a delay",
    r"(?:told|tells?|telling) (?:\w+ ){0,3}apart": "distinguish",
    r"a record of its own": "a new, separate record",
    r"one's own": "your own",
    r"in vain": "without result",
    r"unlearn(?:s|ed)?": "keeps / discards the stored factors",
    r"bears? with": "tolerate",
    r"lets? go of": "release",
    r"gone on with": "resumed",
    r"of old": "former, earlier",
}


@dataclass(frozen=True)
class Finding:
    """A phrase of the list in a file; `line` counts from 1."""

    path: Path
    line: int
    phrase: str
    alternative: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.phrase!r}: write {self.alternative}"


def findings(paths: Iterable[Path], root: Path = ROOT) -> Iterator[Finding]:
    """Yield the phrases in these files, which are relative to `root`."""
    for path in paths:
        text = (root / path).read_text(encoding="utf-8")
        for pattern, alternative in _PATTERNS:
            for match in pattern.finditer(text):
                line = text.count("\n", 0, match.start()) + 1
                yield Finding(path, line, " ".join(match[0].split()), alternative)


def project_files(root: Path = ROOT) -> list[Path]:
    """Return the text files that git tracks or would add, relative to `root`."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    paths = [Path(name) for name in listed.split("\0") if name and not name.startswith(FROZEN)]
    return [path for path in paths if path.suffix in KINDS and (root / path).is_file()]


def _compiled(phrase: str) -> re.Pattern[str]:
    blank = r"(?:_|\s+(?:(?:#|//|\*|--)\s+)?)"
    inner = phrase.replace(" ", blank)
    return re.compile(rf"(?<![a-z0-9])(?:{inner})(?![a-z0-9])", re.IGNORECASE)


_PATTERNS = [(_compiled(phrase), alternative) for phrase, alternative in PHRASES.items()]


def main() -> int:
    """Print all findings. Return 1 if there are any."""
    found = [str(finding) for finding in findings(project_files())]
    print(*found, sep="\n", end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
