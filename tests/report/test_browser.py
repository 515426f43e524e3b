"""A report as Chromium shows it."""

from __future__ import annotations

import html
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from endcap.report import render
from tests.report.browser import Page, browser, program
from tests.report.facts import full

pytestmark = pytest.mark.skipif(program() is None, reason="there is no Chromium here; apt-get install chromium")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("report") / "report.html"
    file.write_text(render(full()), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp("chromium") / "profile") as page:
        yield page


@pytest.mark.parametrize(("width", "dark"), [(1400, False), (390, True)])
def test_charts_are_drawn_nothing_is_fetched_and_nothing_sticks_out(
    page: Page, file: Path, width: int, dark: bool
) -> None:
    page.events.clear()
    page.show(file, width=width, dark=dark)
    assert page.complaints() == []
    assert page.requests() == [file.as_uri()]
    assert page.ask("document.documentElement.scrollWidth") == width
    place = "[...document.querySelectorAll('[data-chart]')]"
    assert page.ask(f"{place}.filter((one) => one.firstElementChild.scrollWidth > one.clientWidth).length") == 0
    dots = "document.querySelectorAll('[data-chart=\"dots-mrr@20\"] .points path').length"
    assert page.ask(dots) == 4
    colour = page.ask("document.querySelector('[data-chart=\"dots-mrr@20\"] .points path').style.fill")
    assert colour == ("rgb(116, 167, 255)" if dark else "rgb(31, 95, 208)")


def test_it_is_whole_in_a_sandboxed_frame_as_kubeflow_shows_it(page: Page, file: Path) -> None:
    """The frame may run scripts and no more; its document comes as text, so its links have no address to go to."""
    framed = file.with_name("framed.html")
    text = html.escape(file.read_text(encoding="utf-8"))
    framed.write_text(f'<iframe sandbox="allow-scripts" width="800" height="600" srcdoc="{text}"></iframe>')
    page.events.clear()
    page.call("Page.navigate", url=framed.as_uri())
    frame = page.frame()
    frame.wait()
    frame.ask("document.querySelector('nav a[href=\"#about\"]').click()")
    until = time.monotonic() + 10
    while frame.ask("document.getElementById('about').getBoundingClientRect().top > innerHeight"):
        assert time.monotonic() < until, "the link leads nowhere"
        time.sleep(0.05)
    assert frame.ask("location.href") == "about:srcdoc"
    assert frame.complaints() == page.complaints() == []
    assert [url for url in page.requests() + frame.requests() if url not in (framed.as_uri(), "about:srcdoc")] == []
    frame.close()
