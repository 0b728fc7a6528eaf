"""Dashboards in a browser: errors on a page, the page's URL, and what to install."""

from __future__ import annotations

import builtins
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from stackspec.fixtures.browser import Chromium, Window, _url
from stackspec.plugin.session import RUN


class FakePage:
    """The parts of Playwright's page that a window uses."""

    url = "http://d/p"

    def __init__(self) -> None:
        self.handlers: dict[str, Callable[[Any], object]] = {}

    def on(self, event: str, handler: Callable[[Any], object]) -> None:
        self.handlers[event] = handler

    def screenshot(self, **options: object) -> bytes:
        return b"page"


class Report:
    """Records what is attached."""

    def __init__(self) -> None:
        self.attached: list[tuple[str, str | bytes]] = []

    def attach(self, title: str, content: str | bytes) -> None:
        self.attached.append((title, content))


def answer(kind: str, status: int) -> SimpleNamespace:
    """A response like Playwright's."""
    return SimpleNamespace(status=status, url=f"http://d/{kind}", request=SimpleNamespace(resource_type=kind))


class TestWindow:
    """Errors on the displayed pages."""

    @pytest.mark.parametrize(
        ("event", "given", "said"),
        [
            ("pageerror", "x is undefined", "error in a script: x is undefined"),
            ("response", answer("stylesheet", 404), "stylesheet http://d/stylesheet: HTTP 404"),
            ("response", answer("xhr", 500), "xhr http://d/xhr: HTTP 500"),
            (
                "console",
                SimpleNamespace(type="error", text="no", location={"url": "http://d/a.js"}),
                "no (http://d/a.js)",
            ),
            (
                "requestfailed",
                SimpleNamespace(resource_type="font", url="http://d/f", failure="net::ERR_CONNECTION_REFUSED"),
                "font http://d/f: net::ERR_CONNECTION_REFUSED",
            ),
        ],
    )
    def test_error_on_the_page_fails(self, event: str, given: Any, said: str) -> None:
        """Each is reported once, unless it is expected."""
        page = FakePage()
        window = Window(cast("Any", page), cast("Any", Report()))
        for _ in range(2):
            page.handlers[event](given)
        with pytest.raises(pytest.fail.Exception, match="the last one http://d/p") as failure:
            window.check()
        assert str(failure.value).count(said) == 1
        window.check()
        page.handlers[event](given)
        window.known.append(said)
        window.check()

    def test_screenshot_is_attached(self) -> None:
        """It is attached to the test at once."""
        page, report = FakePage(), Report()
        Window(cast("Any", page), cast("Any", report)).picture("login page")
        assert report.attached == [("login page", b"page")]

    @pytest.mark.parametrize(
        ("event", "given"),
        [
            ("response", answer("xhr", 404)),
            ("response", answer("document", 200)),
            ("console", SimpleNamespace(type="warning", text="old", location={})),
            ("requestfailed", SimpleNamespace(resource_type="image", url="http://d/i", failure="net::ERR_ABORTED")),
        ],
    )
    def test_harmless_event_passes(self, event: str, given: Any) -> None:
        """Events that are not errors."""
        page = FakePage()
        window = Window(cast("Any", page), cast("Any", Report()))
        page.handlers[event](given)
        window.check()


@pytest.mark.parametrize(
    ("given", "site", "expected"),
    [
        ("http://d.example/horizon/", None, "http://d.example/horizon"),
        (None, SimpleNamespace(controller=SimpleNamespace(address="10.0.0.10")), "http://10.0.0.10/horizon"),
    ],
    ids=["option", "site"],
)
def test_url_of_the_dashboard(given: str | None, site: SimpleNamespace | None, expected: str) -> None:
    """The option, or else the site's URL."""
    config: Any = SimpleNamespace(getoption=lambda name, default: given, stash={RUN: SimpleNamespace(site=site)})
    assert _url(config, "horizon_url", "http://{controller}/horizon") == expected


def test_dashboard_without_a_url_is_skipped() -> None:
    """The catalog of an existing cloud has no dashboards; the test is skipped before a browser is searched."""
    config: Any = SimpleNamespace(getoption=lambda name, default: None, stash={RUN: SimpleNamespace(site=None)})
    with pytest.raises(pytest.skip.Exception, match="give its URL with --horizon-url URL"):
        _url(config, "horizon_url", "http://{controller}/horizon")


def test_missing_browser_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test fails; a skipped test would look like a working dashboard."""
    pytest.importorskip("playwright", reason="the extra `browser` is not installed")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(pytest.fail.Exception, match="apt-get install chromium-headless-shell fonts-dejavu-core"):
        Chromium().window(cast("Any", Report()))


def test_missing_playwright_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for Playwright, which is an extra."""
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("playwright"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.delitem(sys.modules, "playwright.sync_api", raising=False)
    with pytest.raises(pytest.fail.Exception, match=r"run \./run, or pip install 'stackspec\[browser\]'"):
        Chromium().window(cast("Any", Report()))
