"""systemd reads all units again, which takes seconds on a slow node, only if it has loaded something older."""

from __future__ import annotations

from pathlib import Path

import pytest

from stackspec.node_agent import files, systemd

from . import fake_systemctl

SYSTEMCTL = r"""#!/bin/sh
cd HERE || exit 1
for last; do :; done
unit=${last%.service}
case "$1" in
enable | mask | unmask)
    [ "$SYSTEMD_OFFLINE" = 1 ] || exit 1
    case $1 in enable) state=enabled ;; mask) state=masked ;; *) state=disabled ;; esac
    echo "$state" >"link.$unit";;
is-enabled)
    cat "link.$unit";;
show)
    [ -e "loaded.$unit" ] && shown=loaded || shown=link
    echo "UnitFileState=$(cat "$shown.$unit")"
    echo "FragmentPath=$(cat fragment)"
    echo "NeedDaemonReload=$(cat outdated)";;
daemon-reload)
    echo x >>reloads; rm -f loaded.*;;
esac
"""


class Systemd:
    """A node's systemd: links of units, the state of loaded ones, and how often it has read all of them again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def unit(self, name: str, link: str, *, loaded: str = "") -> None:
        """A unit's state by its links, and by what systemd has loaded, if it has."""
        (self.folder / f"link.{name}").write_text(f"{link}\n")
        if loaded:
            (self.folder / f"loaded.{name}").write_text(f"{loaded}\n")

    @property
    def reloads(self) -> int:
        """How often it has read all units."""
        found = self.folder / "reloads"
        return found.read_text().count("x") if found.exists() else 0


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Systemd:
    fake_systemctl.install(tmp_path, monkeypatch, SYSTEMCTL)
    monkeypatch.setattr(files, "UNITS", f"{tmp_path}/units/")
    return Systemd(tmp_path)


@pytest.mark.parametrize(("verb", "state"), [("enable", "enabled"), ("mask", "masked")])
@pytest.mark.parametrize(("loaded", "reloads"), [("", 0), ("disabled", 1)], ids=["not loaded", "loaded"])
def test_links_of_units(node: Systemd, verb: str, state: str, loaded: str, reloads: int) -> None:
    for name in ("outdated", "fragment"):
        (node.folder / name).touch()
    node.unit("app", "disabled", loaded=loaded)
    systemd.systemctl(verb, ["app"])
    assert systemd.read_units(["app"])["app"]["enabled"] == state
    assert node.reloads == reloads


@pytest.mark.parametrize(
    ("path", "loaded", "outdated", "reloads"),
    [
        pytest.param("units/app.service", "units/app.service", "no", 0, id="new unit"),
        pytest.param("units/app.service", "units/app.service", "yes", 1, id="changed"),
        pytest.param("units/app.service", "package/app.service", "no", 1, id="instead of a package's"),
        pytest.param("units/app.service.d/more.conf", "package/app.service", "no", 1, id="besides a package's"),
        pytest.param("network/app.network", "", "yes", 0, id="no unit"),
    ],
)
def test_written_file(node: Systemd, path: str, loaded: str, outdated: str, reloads: int) -> None:
    (node.folder / "outdated").write_text(f"{outdated}\n")
    (node.folder / "fragment").write_text(f"{node.folder}/{loaded}\n")
    node.unit("app", "enabled")
    files.replace(f"{node.folder}/{path}", "[Unit]\n")
    assert node.reloads == reloads
