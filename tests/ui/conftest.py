"""A real browser for the tests of pages: ``page`` is a fresh Chromium tab that can reach nothing outside this machine's files.

The test fails if its page asked for any other address or logged an error.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Route, sync_playwright

LOCAL = ("file:", "data:", "blob:", "about:")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    names = (os.environ.get("HEADWATER_CHROMIUM"), "chromium", "chromium-browser", "google-chrome")
    path = next((found for name in names if name and (found := shutil.which(name))), None)
    quiet = [
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
    ]
    with sync_playwright() as playwright:
        if path is None and not os.path.exists(playwright.chromium.executable_path):
            pytest.fail("no Chromium: `make test` gets one, or name it with HEADWATER_CHROMIUM")
        browser = playwright.chromium.launch(executable_path=path, args=quiet)
        yield browser
        browser.close()


@pytest.fixture
def complaints() -> list[str]:
    """What the page did that a self-contained page does not; a test that provokes one clears the list."""
    return []


@pytest.fixture
def page(browser: Browser, complaints: list[str]) -> Iterator[Page]:
    page = browser.new_page(viewport={"width": 1280, "height": 900})

    def route(request: Route) -> None:
        if request.request.url.startswith(LOCAL):
            request.continue_()
        else:
            complaints.append(f"asked for {request.request.url}")
            request.abort()

    def console(message: ConsoleMessage) -> None:
        if message.type == "error":
            complaints.append(f"logged {message.text}")

    page.route("**/*", route)
    page.on("console", console)
    page.on("pageerror", lambda error: complaints.append(f"raised {error}"))
    yield page
    page.close()
    assert not complaints
