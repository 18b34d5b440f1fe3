"""The page in a real browser, on a desktop and on a phone, light and dark."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import CHROMIUM, Page, browser

from mnas import Result

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: apt-get install chromium")


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1280, 390])
def test_it_fits_and_says_no_error(done: Result, chromium: Page, width: int, dark: bool) -> None:
    chromium.said.clear()
    chromium.open(done.folder / "report.html", width, dark)
    assert chromium.evaluate("innerWidth") == width
    assert chromium.evaluate("document.documentElement.scrollWidth") <= width
    assert chromium.evaluate("getComputedStyle(document.body).backgroundColor") == (
        "rgb(20, 23, 27)" if dark else "rgb(251, 251, 250)"
    )
    assert chromium.evaluate("[...document.images].every(one => one.complete && one.naturalWidth > 0 && one.alt)")
    named = "[...document.querySelectorAll('svg')].every(one => one.getAttribute('aria-label'))"
    assert chromium.evaluate(named)
    assert chromium.evaluate("document.querySelectorAll('svg').length") >= 6
    loaded = chromium.evaluate("performance.getEntriesByType('resource').map(one => one.name)")
    assert [name for name in loaded if not name.startswith("data:")] == []
    assert chromium.said == []


def test_texts_stay_inside_their_pictures(done: Result, chromium: Page) -> None:
    chromium.open(done.folder / "report.html", 390)
    outside = """
        [...document.querySelectorAll('svg text')].filter(text => {
            const inner = text.getBoundingClientRect(), outer = text.ownerSVGElement.getBoundingClientRect()
            return inner.left < outer.left - 1 || inner.right > outer.right + 1
                || inner.top < outer.top - 1 || inner.bottom > outer.bottom + 1
        }).map(text => text.textContent)
    """
    assert chromium.evaluate(outside) == []


def test_a_point_says_its_command(done: Result, chromium: Page) -> None:
    chromium.open(done.folder / "report.html", 1280)
    said = """
        const mark = document.querySelector('#front .point.front')
        mark.dispatchEvent(new PointerEvent('pointerover', {bubbles: true}))
        const output = mark.closest('figure').querySelector('output');
        [output.textContent, output.querySelector('code').textContent, output.querySelectorAll('*').length]
    """
    whole, command, elements = chromium.evaluate(said)
    assert command in {f"mnas export '{done.folder}' --trial {trial.number}" for trial in done.front}
    assert whole.endswith(command) and elements == 1


def test_what_the_browser_complains_of_is_heard(chromium: Page, tmp_path: Path) -> None:
    chromium.said.clear()
    (tmp_path / "bad.html").write_text("<!doctype html><title>x</title><script>console.error('x'); nothing()</script>")
    chromium.open(tmp_path / "bad.html", 1280)
    chromium.evaluate("1")
    assert len(chromium.said) == 2
