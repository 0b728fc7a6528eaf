"""A kernel module is loaded now and at boot; a kernel without it is reported before any change."""

from __future__ import annotations

from stackspec.resources import KernelModule
from stackspec.resources.actions import Write
from stackspec.resources.base import file, run
from stackspec.site import Site

from .bare import ChangeOf, answer, context, text_file


class TestKernelModule:
    """A kernel module."""

    resource = KernelModule("iscsi_tcp", "no volume can be attached", "set volumes: false")
    loaded = {file("/sys/module/iscsi_tcp"): text_file("")}  # noqa: RUF012
    module = {run("modinfo", "--field", "filename", "iscsi_tcp"): answer("/lib/iscsi_tcp.ko")}  # noqa: RUF012
    builtin = {run("modinfo", "--field", "filename", "iscsi_tcp"): answer("(builtin)")}  # noqa: RUF012

    def test_missing_module(self, site: Site) -> None:
        """Neither built in nor loadable: reported before any change, with what to write."""
        here = context(site, site.nodes["compute01"])
        assert self.resource.obstacles(here) == [
            "the kernel has no iscsi_tcp, without which no volume can be attached; set volumes: false"
        ]
        for known in (self.loaded, self.module, self.builtin):
            assert self.resource.obstacles(context(site, site.nodes["compute01"], known)) == []

    def test_module_is_loaded_now_and_at_boot(self, change: ChangeOf) -> None:
        """An available module."""
        made = change(self.resource, self.module)
        write, load = made.actions
        assert (write.path, write.content) == ("/etc/modules-load.d/iscsi_tcp.conf", "iscsi_tcp\n")
        assert load.argv == ("modprobe", "iscsi_tcp")
        (write,) = change(self.resource, {**self.module, **self.loaded}).actions
        assert isinstance(write, Write)
        listed = {file("/etc/modules-load.d/iscsi_tcp.conf"): text_file("iscsi_tcp\n")}
        assert change(self.resource, {**self.module, **self.loaded, **listed}) is None
        assert change(self.resource, self.builtin) is None
        assert change(self.resource, self.loaded) is None
