"""Which archive a lab installs from: the inventory's, the environment's or the machine's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from stackspec.lab import mirror
from stackspec.lab.mirror import Mirror
from stackspec.lab.spec import LabSpec

from . import small_lab

site = small_lab.site


class TestMirror:
    def test_lines(self) -> None:
        text = "# deb http://a/x y main\ndeb [arch=amd64] http://a/debian/ stable main contrib #\ndeb-src x y z"
        assert mirror.parse_sources(text, deb822=False) == [
            mirror.Source(("http://a/debian",), ("stable",), ("main", "contrib"))
        ]

    def test_stanzas(self) -> None:
        text = (
            "Types: deb deb-src\n# note\nURIs: http://a/debian\nSuites: s\n s-updates\nComponents: main\n\n"
            "Types: deb\nEnabled: no\nURIs: http://b/\nSuites: s\nComponents: main\n"
        )
        assert mirror.parse_sources(text, deb822=True) == [
            mirror.Source(("http://a/debian",), ("s", "s-updates"), ("main",))
        ]

    def test_third_party_sources_of_the_machine_are_ignored(self, tmp_path: Path) -> None:
        apt = tmp_path / "etc/apt/sources.list.d"
        apt.mkdir(parents=True)
        (tmp_path / "etc/os-release").write_text('ID=debian\nVERSION_CODENAME="s"\n')
        (apt / "a.list").write_text("deb https://third.test/apt other main\ndeb cdrom:[x]/ s main\n")
        (apt / "b.sources").write_text(
            "Types: deb\nURIs: https://m.test/debian\nSuites: s s-updates\nComponents: main\n"
        )
        (apt / "c.list").write_text("deb http://sec.test/debian-security s-security main\n")
        assert mirror.of_machine(tmp_path) == Mirror("https://m.test/debian", "http://sec.test/debian-security")
        (tmp_path / "etc/os-release").write_text("ID=ubuntu\n")
        assert mirror.of_machine(tmp_path) is None

    def test_precedence_of_mirrors(self, site: LabSpec, tmp_path: Path) -> None:
        named = replace(site, mirror="https://inv.test/debian")
        environ = {"STACKSPEC_MIRROR": "http://env.test/debian/"}
        assert mirror.choose(named, environ, tmp_path) == Mirror(
            "https://inv.test/debian", "https://inv.test/debian-security"
        )
        chosen = mirror.choose(site, environ, tmp_path)
        assert chosen is not None
        assert chosen.archive == "http://env.test/debian"
        assert mirror.choose(site, {}, tmp_path) is None

    def test_nodes_use_http_and_the_proxy_the_configured_url(self) -> None:
        found = Mirror("https://M.test/debian")
        assert found.lines(plain=True)[0].startswith("deb http://M.test/debian ")
        assert found.hosts() == {"m.test": "https"}
