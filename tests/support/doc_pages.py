"""Read the documentation: its pages, and the code blocks in them."""

import re
from dataclasses import dataclass
from functools import cache

from tests.support import ROOT


@dataclass(frozen=True)
class Block:
    """A fenced code block; `line` is the page's line number of its first line."""

    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


@cache
def pages() -> dict[str, str]:
    """Return path -> Markdown of all pages, including the Space's page on the Hub."""
    paths = [
        ROOT / "README.md",
        ROOT / "kronos_space/README.md",
        *sorted(ROOT.rglob("docs/**/*.md")),
    ]
    return {str(path.relative_to(ROOT)): path.read_text() for path in paths}


def blocks(language: str) -> list[Block]:
    found = []
    for page, text in pages().items():
        for fence in re.finditer(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            if fence[1] == language:
                line = text[: fence.start(2)].count("\n") + 1
                found.append(Block(page, line, language, fence[2]))
    return found


def commands(block: Block) -> list[str]:
    """Return the commands of a shell block, without comments and with continued lines joined."""
    joined = re.sub(r"\\\n\s*", "", block.text)
    lines = (re.sub(r"(^|\s)#.*$", "", line).strip() for line in joined.splitlines())
    return [line for line in lines if line]
