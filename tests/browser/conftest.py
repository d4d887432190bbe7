"""The browser of all page tests of a worker."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.support.browser import chromium


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """A running Chromium; it starts in two seconds of CPU time."""
    with chromium() as browser:
        yield browser
