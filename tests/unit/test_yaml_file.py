"""A file of settings as YAML."""

from __future__ import annotations

from ruamel.yaml import YAML

from stackspec.resources import YamlFile
from stackspec.resources.base import file

from .bare import ChangeOf, differences, text_file

SETTINGS = {"default": {"secret_key": "000000", "debug": False, "names": [], "port": 3306}}


class TestYamlFile:
    """Settings as YAML."""

    def test_text_is_written_and_read(self) -> None:
        """In the given order; a text of digits stays a text (erratum E96)."""
        text = YamlFile("/etc/x.yaml", SETTINGS).text
        assert YAML(typ="safe").load(text) == SETTINGS
        assert "secret_key: '000000'" in text
        assert "\n  debug: false\n" in text

    def test_as_declared(self, change: ChangeOf) -> None:
        resource = YamlFile("/etc/x.yaml", SETTINGS, group="app")
        known = {file("/etc/x.yaml"): text_file(resource.text, mode=0o640, group="app")}
        assert change(resource, known) is None

    def test_readable_by_everybody(self, change: ChangeOf) -> None:
        resource = YamlFile("/etc/x.yaml", SETTINGS)
        known = {file("/etc/x.yaml"): text_file(resource.text)}
        assert differences(change(resource, known)) == ["mode: wanted 0640, found 0644"]
