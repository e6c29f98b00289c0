"""Run pages in a real browser: nothing is fetched, nothing planted runs, light and dark and small screens are readable."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page

from headwater.report.page import Chapter, Outcome, Shown, chapters_page, results_page, text
from headwater.samples import Samples

sys.path.insert(0, str(Path(__file__).parents[1] / "core" / "plugin"))
from headwater_words import WORDS, Wish, Words

sys.path.pop(0)
pytestmark = pytest.mark.ui


@pytest.fixture
def run(tmp_path: Path) -> Path:
    items = [*WORDS[:30], "", "aaab"]
    wishes = [Wish(length=3)] * len(items)
    return Samples(Words(), items, wishes, list(range(len(items))), 7, "words/letters").save(tmp_path / "run")


def test_a_run_page_shows_its_run(page: Page, run: Path) -> None:
    page.goto(run.as_uri())
    assert page.title() == "Words, made anew · Headwater"
    assert page.locator(".gallery > li").count() == 32
    assert page.get_by_role("note").inner_text() == "For tests & nothing else."
    assert page.locator(".gallery > li").nth(30).locator(".why").inner_text() == "it is <empty>"
    assert not page.locator("details table").is_visible()
    page.locator("summary").click()
    assert page.locator("details table").is_visible()
    with page.expect_download() as download:
        page.get_by_role("link", name="items.parquet").click()
    assert download.value.suggested_filename == "items.parquet"


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_a_page_fits_its_window(width: int, page: Page, run: Path) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    page.goto(run.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def contrast(page: Page, selector: str) -> float:
    """The contrast of an element's text with the nearest painted background (WCAG 2.1; 4.5 and more reads well)."""
    script = """(e) => {
      const rgb = (c) => c.match(/[\\d.]+/g).map(Number);
      const light = (c) => rgb(c).slice(0, 3).map(v => v / 255).map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
        .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
      let under = e; while ((rgb(getComputedStyle(under).backgroundColor)[3] ?? 1) === 0) under = under.parentElement;
      const pair = [light(getComputedStyle(e).color), light(getComputedStyle(under).backgroundColor)].sort((a, b) => b - a);
      return (pair[0] + .05) / (pair[1] + .05); }"""
    return float(page.locator(selector).first.evaluate(script))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_page_reads_on_light_and_dark(scheme: Any, page: Page, run: Path) -> None:
    page.emulate_media(color_scheme=scheme)
    page.goto(run.as_uri())
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, paper.removeprefix("rgb(").removesuffix(")").split(","))) < 380) == (scheme == "dark")
    for selector in ("h1", ".lead", "th", "td", ".files a", ".tag .bad", ".notice", "footer", "summary"):
        assert contrast(page, selector) >= 4.5, selector


def test_text_from_data_never_becomes_markup(page: Page, tmp_path: Path) -> None:
    evil = "<img src=x onerror=\"document.title='planted'\"><script>document.title='planted'</script>"
    made = Outcome()
    made.add(Shown(0, 1, {evil: evil}, evil, f"<p>{text(evil)}</p>"))
    file = tmp_path / "index.html"
    file.write_text(results_page(Words(), evil, evil, made, [], tmp_path, [(evil, evil, evil)]), encoding="utf-8")
    page.goto(file.as_uri())
    assert "planted" not in page.title() or "<img" in page.title()
    assert page.locator("img, main script").count() == 0


def test_a_fragment_that_asks_for_an_outside_address_is_stopped_by_the_page(
    page: Page, complaints: list[str], tmp_path: Path
) -> None:
    file = tmp_path / "index.html"
    body = '<img src="https://example.invalid/a.png"><link rel="stylesheet" href="https://example.invalid/a.css">'
    file.write_text(chapters_page("a", "b", [], [Chapter("c", "d", "e/index.html", body)]), encoding="utf-8")
    page.goto(file.as_uri())
    assert complaints and all("Content Security Policy" in c for c in complaints)  # the browser asked for nothing
    complaints.clear()
