"""The fixture ``page`` sees what it is there to see."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page

pytestmark = pytest.mark.ui


def test_a_page_that_asks_for_an_outside_address_is_caught(page: Page, complaints: list[str], tmp_path: Path) -> None:
    file = tmp_path / "index.html"
    file.write_text('<img src="http://example.invalid/a.png"><script>throw new Error("planted")</script>', encoding="utf-8")
    page.goto(file.as_uri())
    assert any("example.invalid" in c for c in complaints)
    assert any("planted" in c for c in complaints)
    complaints.clear()


def test_a_self_contained_page_raises_no_complaint(page: Page, tmp_path: Path) -> None:
    file = tmp_path / "index.html"
    file.write_text("<title>one</title><script>document.title = 'two'</script>", encoding="utf-8")
    page.goto(file.as_uri())
    assert page.title() == "two"
