"""One browser and one folder of pages for all tests of this folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.pages.browser import Browser, started
from tests.pages.pages_written import Written, written


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium; skips where there is none."""
    yield from started()


@pytest.fixture(scope="session")
def page(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Written]:
    """The page of a name, written when it is first asked for."""
    folder = tmp_path_factory.mktemp("pages")
    return lambda name: written(name, folder)


@pytest.fixture
def looked_at(browser: Browser) -> Browser:
    """The browser with a window and a scheme as they were."""
    browser.window(1280)
    browser.scheme("light")
    return browser
