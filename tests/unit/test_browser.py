"""Dashboards in a browser: settings files, screenshots as pixels, and the message when no browser is installed."""

from __future__ import annotations

import builtins
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from stackspec.errors import StackspecError
from stackspec.fixtures.browser import Chromium, Window, _url
from stackspec.fixtures.screen import Screen
from stackspec.plugin.session import RUN
from stackspec.resources import PythonSettings
from stackspec.resources.base import file

from .bare import ChangeOf, differences, made, text_file

SETTINGS = PythonSettings("/etc/s.py", {"DEBUG": False, "HOSTS": ["a", "b"], "CACHES": {"default": {"BACKEND": "x"}}})
FOUND = """\
# What the package says.
DEBUG = True
HOSTS = [  # of the site
    'a',
]
OTHER = call("x") % HOSTS
CACHES = {
    'default': {'BACKEND': "x"},
}
"""


class TestPythonSettings:
    """Names assigned in a Python file."""

    def test_new_file(self, change: ChangeOf) -> None:
        """A new file contains only the settings, readable by Python."""
        found = change(SETTINGS)
        assert (found.actions[0].mode, found.touches) == (0o644, ("/etc/s.py",))
        read: dict[str, object] = {}
        exec(found.actions[0].content, read)
        assert {name: read[name] for name in SETTINGS.settings} == SETTINGS.settings
        assert change(SETTINGS, made({}, found)) is None

    def test_values_are_replaced_in_place(self, change: ChangeOf) -> None:
        """Different assignments are replaced in place, also long ones; everything else stays unchanged."""
        known = {file("/etc/s.py"): text_file(FOUND)}
        found = change(SETTINGS, known)
        assert differences(found) == ["DEBUG: wanted False, found True", "HOSTS: wanted ['a', 'b'], found ['a']"]
        expected = FOUND.replace("True", "False").replace("[  # of the site\n    'a',\n]", "['a', 'b']")
        assert found.actions[0].content == expected
        assert found.actions[0].mode is None
        assert change(SETTINGS, made(known, found)) is None

    def test_last_assignment_counts(self, change: ChangeOf) -> None:
        """The last one is in force, so earlier ones are kept."""
        known = {file("/etc/s.py"): text_file("A = 1\nA = 2\n")}
        assert change(PythonSettings("/etc/s.py", {"A": 2}), known) is None
        found = change(PythonSettings("/etc/s.py", {"A": 3}), known)
        assert found.actions[0].content == "A = 1\nA = 3\n"

    def test_expression_counts_as_different(self, change: ChangeOf) -> None:
        """A value that cannot be read without running the file differs, and is shown as written."""
        known = {file("/etc/s.py"): text_file('URL = "http://%s/v3" % HOST\n')}
        found = change(PythonSettings("/etc/s.py", {"URL": "http://c:5000/v3"}), known)
        assert differences(found) == ["URL: wanted 'http://c:5000/v3', found 'http://%s/v3' % HOST"]

    def test_invalid_python_is_reported(self, change: ChangeOf) -> None:
        """The message has file and line; a file that cannot be parsed is not written."""
        known = {file("/etc/s.py"): text_file("A = 1\nB = (\n")}
        with pytest.raises(StackspecError, match=r"/etc/s.py:2: not valid Python: .*; fix or remove it"):
            change(SETTINGS, known)


GLYPHS = {" ": ("..", ".."), "a": ("#.", ".#"), "b": ("##", "..")}


def screen(*lines: str) -> Screen:
    """A screen where each character is two pixels wide and two high."""
    rows = ["".join(GLYPHS[each][row] for each in line) for line in lines for row in (0, 1)]
    return Screen(len(rows[0]), len(rows), "".join(rows))


class TestScreen:
    """A picture of bright and dark pixels."""

    def test_text_is_recognised_by_its_pixels(self) -> None:
        """Equal characters look equal, others do not, and a blank is dark."""
        text = ["ab a", " ba "]
        assert screen(*text).misspelt(text) == 0
        assert screen("ab b", " ba ").misspelt(text) == 1
        assert screen("ab a", " bab").misspelt(text) == 1
        assert screen("aa a", " aa ").misspelt(text) == 2
        assert screen("    ", "    ").misspelt(text) == 5

    def test_different_sizes_differ_completely(self) -> None:
        """A screen of another size differs in all pixels."""
        assert screen("ab").differing(screen("ab")) == 0
        assert screen("ab").differing(screen("a ")) == 2
        assert screen("ab").differing(screen("a")) == 8

    def test_portable_pixmap(self) -> None:
        """Pixels are read by brightness, even if their bytes look like whitespace."""
        data = b"P6\n2 2\n255\n" + bytes([0, 0, 0, 255, 255, 255, 32, 32, 32, 170, 0, 0])
        assert Screen.of_ppm(data) == Screen(2, 2, ".#.#")


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
    with pytest.raises(pytest.fail.Exception, match="apt-get install chromium fonts-dejavu-core"):
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
