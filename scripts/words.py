"""Fail on phrases that a reader has to work out, and name a plain alternative.

`make lint` runs it over all text files of the project. Add a phrase to PHRASES when a review finds
it twice.
"""

import os
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
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
    r"is let go": "is not kept",
    r"gone on with": "resumed",
    r"of old": "former, earlier",
    r"(?:is|are|was|were) told": "reported / the user, the model gets",
    r"goes on|went on": "continues",
    r"what became of": "the result of",
    r"stands? (?:there|beside)": "is listed, is next to",
    r"lies? (?:there|beside)": "is in, is next to",
    r"there already": "already there, exists",
    r"costs? itself alone": "affects only itself",
    r"of one's(?! own)": "of your",
    r"likewise": "the same, also",
    r"yardsticks?": "baseline",
    r"but for": "except",
    r"without a word": "without a message",
    r"(?:comes?|came|goes|went) apart": "are separate",
    r"speaks? against": "contradicts",
    r"bears? out": "supports",
    r"hands? over|handed over": "passes, yields",
    r"what has come|still to come": "the outcome / in the future",
    r"tells? nothing": "does not show",
    r"if need be": "if needed",
    r"at the most": "at most",
    r"one an? (?:ticker|day|night|row|line|step|path|series|session)": "one per …",
    r"(?:one|a|an) (?:row|line|bar|request|panel|frame|array|object) an? "
    r"(?:ticker|day|night|row|line|step|path|series|session|bar|prompt|finding|time)": "per …",
    r"ways? out": "what to do, a remedy",
    r"each one's": "of each",
    r"(?:un)?taught": "learnt",
    r"go(?:es)? on (?:waiting|without)": "continue",
    r"say --[a-z-]+": "give --…",
    r"(?<!there[\s_])(?:is|are) no (?:forecasts?|numbers?|text|prices?|json|csv)": "is not a …",
    r"as people have (?:it|them)": "common",
    r"out of all bounds": "too large",
    r"[a-z]+error: (?-i:It|They) (?:is|are|cannot|has|does|did|lacks)": "the subject, not 'it'",
    r"with what to (?:do|write)": "that says what to …",
    r"the wall's": "the real clock's",
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
    """Return the text files that .gitignore does not name, relative to `root`.

    git itself would know them better, but a bare machine and an unpacked archive have none.
    """
    ignored = [".git", *(line.strip("/") for line in (root / ".gitignore").read_text().split())]

    def is_ours(name: str) -> bool:
        return not any(fnmatch(name, pattern) for pattern in ignored)

    found = []
    for folder, folders, files in os.walk(root):
        folders[:] = filter(is_ours, folders)
        found += [Path(folder, name).relative_to(root) for name in filter(is_ours, files)]
    return sorted(
        path for path in found if path.suffix in KINDS and not path.as_posix().startswith(FROZEN)
    )


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
