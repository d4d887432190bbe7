"""The built documentation in a real Chromium, opened as files."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support import ROOT


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", str(folder)]
    environ = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    subprocess.run(command, cwd=ROOT, check=True, env=environ)
    return folder


@pytest.fixture(scope="module")
def page(browser: Browser, site: Path) -> Iterator[Page]:
    """The landing page. Requests outside the site fail the test."""
    page = browser.new_page()
    page.set_default_timeout(60_000)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto((site / "index.html").as_uri())
    yield page
    page.close()
    assert {url.partition(":")[0] for url in asked} <= {"file", "data"}


def test_search_works_in_pages_opened_as_files(page: Page) -> None:
    page.locator(".md-search__input:visible").press_sequentially("advisory lock")
    found = page.locator(".md-search-result__item")
    expect(found.first).to_be_visible(timeout=60_000)
    found.first.locator("a").first.click()
    page.wait_for_url(re.compile(r"(nightly-job|reliability|runbook)\.html"))
    expect(page.locator("article")).to_contain_text("lock")


def test_a_reader_can_choose_dark_colours(page: Page) -> None:
    page.locator("label[title='Dark colours']:visible").click()
    expect(page.locator("body")).to_have_attribute("data-md-color-scheme", "slate")


def test_every_command_and_page_is_listed_for_people_and_for_language_models(site: Path) -> None:
    commands = (site / "reference/commands.html").read_text()
    for name in ("kronosbot run", "kronosbot space wake", "kronos-space deploy"):
        assert f'id="{name.replace(" ", "-")}"' in commands
    listed = (site / "llms.txt").read_text()
    for source in (ROOT / "docs").rglob("*.md"):
        path = source.relative_to(ROOT / "docs")
        assert f"]({path})" in listed
        assert (site / path).is_file()
    assert not re.search(r":$", listed, re.MULTILINE)  # no summary ends in the middle
