"""MkDocs hook: write llms.txt, the list of all pages for language models, and the pages' Markdown.

The format is that of https://llmstxt.org: a title, a summary, and a list of links a section.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.nav import Navigation
from mkdocs.structure.pages import Page

_pages: dict[str, str] = {}  # path of the source -> Markdown
_navigation: list[Navigation] = []


def on_pre_build(config: MkDocsConfig) -> None:  # noqa: ARG001
    """Forget the pages of the build before this one."""
    _pages.clear()
    _navigation.clear()


def on_nav(nav: Navigation, **_: Any) -> None:
    """Keep the order of the sections and their pages."""
    _navigation.append(nav)


def on_page_markdown(markdown: str, page: Page, **_: Any) -> None:
    """Keep the Markdown of a page."""
    _pages[page.file.src_uri] = markdown


def on_post_build(config: MkDocsConfig) -> None:
    """Write llms.txt and the pages' Markdown into the site."""
    site = Path(config.site_dir)
    for path, markdown in _pages.items():
        (site / path).parent.mkdir(parents=True, exist_ok=True)
        (site / path).write_text(markdown, encoding="utf-8")
    head = f"# {config.site_name}\n\n> {config.site_description}\n"
    text = "\n".join([head, *_entries(_navigation[0].items)])
    (site / "llms.txt").write_text(text + "\n", encoding="utf-8")


def _entries(items: list[Any]) -> Iterator[str]:
    for item in items:
        if item.is_page:
            path = item.file.src_uri
            summary = _summary(_pages[path])
            yield f"- [{item.title}]({path})" + (f": {summary}" if summary else "")
        else:
            yield f"\n## {item.title}\n"
            yield from _entries(item.children)


def _summary(markdown: str) -> str:
    """Return the first sentence of a page's text, without links and line breaks."""
    code_left_out = re.sub(r"^```.*?^```$", "", markdown, flags=re.MULTILINE | re.DOTALL)
    for paragraph in code_left_out.split("\n\n"):
        text = " ".join(paragraph.split())
        if text and text[0] not in "#!:|":
            plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", text)
            first = re.split(r"(?<=[.!?:]) ", plain, maxsplit=1)[0]
            return re.sub(":$", ".", first)
    return ""
