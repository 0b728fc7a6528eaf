"""The console of a server in a browser, through nova's proxy on the controller."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from openstack.connection import Connection

from stackspec.fixtures.browser import Window
from stackspec.fixtures.guest import Guest
from stackspec.fixtures.screen import CANVAS, NO_TLS, Screen, wait_for_screen, wait_lit
from stackspec.secrets import redact
from stackspec.site import Site
from stackspec.waiting import wait_for

pytestmark = pytest.mark.lane("guests")

CURSOR = 1
"""Cells that differ from the text: the cursor is on one, or blinks."""
ROWS, COLUMNS = 25, 80
HALF_LIT = 9 * 16 // 2
"""Maximum number of points that a cursor changes."""


def console_url(guest: Guest) -> str:
    """The URL of the server's console, which grants access."""
    guest.wait_status()
    url = str(guest.connection.compute.create_server_remote_console(guest.server.id, protocol="vnc", type="novnc").url)
    redact.add(_token(url))
    return url


def show(url: str, window: Window) -> None:
    """Open the console in the browser and wait for the screen."""
    window.known.append(NO_TLS)
    window.page.goto(url)
    window.page.wait_for_selector(CANVAS)


def _token(url: str) -> str:
    return urlsplit(parse_qs(urlsplit(url).query)["path"][0]).query.removeprefix("token=")


def test_console_shows_the_screen(web: Guest, window: Window) -> None:
    """Nova's console URL, opened in a browser, shows a screen that is not black."""
    show(console_url(web), window)
    wait_lit(window.page, web.state)
    window.picture("console of a server")


def test_screen_spells_the_login_prompt(
    web: Guest, window: Window, site: Site, cloud: Connection, node_host: Callable[[str], Any]
) -> None:
    """The page matches the hypervisor's screen dump, and both match the text of the guest's first console."""
    wait_for("a login prompt on the guest's first console", lambda: "login:" in "".join(_text(web)), 120, every=3)
    url = console_url(web)
    where = urlsplit(url)
    assert (where.hostname, where.port) == (site.controller.address, 6080), (
        "the console is not reachable from the controller"
    )
    server = cloud.compute.get_server(web.server.id)
    host = node_host(server.compute_host)
    show(url, window)

    def seen() -> dict[str, int]:
        text, page, dump = (
            _text(web),
            Screen.of_page(window.page),
            Screen.of_dump(host, server.instance_name, window.page),
        )
        return {
            "lit points": page.lit,
            "points that differ from the dump": page.differing(dump),
            "cells of the page that differ from the text": page.misspelt(text),
            "cells of the dump that differ from the text": dump.misspelt(text),
        }

    def same() -> bool:
        last.update(seen())
        lit, points, *cells = last.values()
        return lit > 0 and points <= HALF_LIT and max(cells) <= CURSOR

    last: dict[str, int] = {}
    wait_for_screen(window.page, "the page shows the guest's screen", same, lambda: f"{last}\n{web.state()}")
    window.picture("login prompt of a server")


def test_console_is_closed_to_others(web: Guest, window: Window) -> None:
    """Without nova's token nothing is shown."""
    url = console_url(web)
    token = _token(url)
    window.known += [NO_TLS, "Failed when connecting"]
    window.page.goto(url.replace(token, token[::-1]))
    refused = window.page.locator("#noVNC_status.noVNC_status_error", has_text="Failed to connect")
    refused.or_(window.page.locator("#status", has_text="connection is closed")).wait_for()
    assert window.page.locator(CANVAS).count() == 0 or Screen.of_page(window.page).lit == 0


def _text(guest: Guest) -> list[str]:
    """The lines of the guest's first text console, from its kernel."""

    def whole() -> str:
        text = guest.ssh("sudo cat /dev/vcs1; echo .")[:-1]
        assert len(text) == ROWS * COLUMNS, (
            f"the guest's console: wanted {ROWS} lines of {COLUMNS}, found {len(text)} characters"
        )
        return text

    # A console that is being written to may be read incompletely.
    text = wait_for("the guest's whole console is read", whole, 30, retry_on=(AssertionError,))
    return [text[start : start + COLUMNS] for start in range(0, len(text), COLUMNS)]
