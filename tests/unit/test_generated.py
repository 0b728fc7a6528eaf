"""A file with the output of a program."""

from __future__ import annotations

from typing import Any

from stackspec.resources import Generated
from stackspec.resources.base import Query, file
from stackspec.site import Site

from .bare import ChangeOf, answer, text_file


class TestGenerated:
    """A file with the output of a program."""

    resource = Generated("/etc/x.conf", ("make-x",), edits=("s/a/b/",), check=("test-x", "-c"))

    def known(self, site: Site, out: str, content: str, status: int = 0) -> dict[Query, Any]:
        """A node where the program prints `out` and the file contains `content`."""
        printed, _ = self.resource.queries(site, site.controller)
        return {printed: answer(out, status), file("/etc/x.conf"): text_file(content)}

    def test_correct_environment(self, site: Site, change: ChangeOf) -> None:
        assert change(self.resource, self.known(site, "b\n", "b\n")) is None

    def test_output_is_edited(self, site: Site) -> None:
        printed, _ = self.resource.queries(site, site.controller)
        assert printed.args[0][-1] == "text=$(make-x) && printf '%s\\n' \"$text\" | sed -e s/a/b/"

    def test_different_content(self, site: Site, change: ChangeOf) -> None:
        """The new file is validated before it replaces the old one."""
        found = change(self.resource, self.known(site, "b\n", "old\n"))
        assert "-old\n+b\n" in found.diff
        assert (
            found.actions[0]
            .argv[-1]
            .endswith("test-x -c /etc/x.conf.new && sync /etc/x.conf.new && mv /etc/x.conf.new /etc/x.conf")
        )
        assert found.touches == ("/etc/x.conf",)

    def test_program_is_not_installed_yet(self, site: Site, change: ChangeOf) -> None:
        """Before the packages are installed, the content is unknown."""
        assert "(known after apply)" in change(self.resource, self.known(site, "", "", status=127)).diff
