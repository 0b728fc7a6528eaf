"""A lab node with its own kernel: its command line, its interfaces, and what it cannot start without."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stackspec.lab import LabError, kernel, network
from stackspec.lab.uml import UserModeLinux

from .small_lab import OWN_KERNEL, load


class TestOwnKernel:
    @pytest.fixture
    def process(self, tmp_path: Path) -> UserModeLinux:
        made = load(tmp_path, OWN_KERNEL)
        return UserModeLinux(made, made.node("compute01"), tmp_path / "compute01", tmp_path / "cache")

    def test_kernel_gets_the_machine_on_its_command_line(self, process: UserModeLinux) -> None:
        assert process.arguments(["n1-eth0"]) == [
            "umid=compute01",
            "mem=3072M",
            "ubd0=/node/upper/root.img",
            *(f"ubd{number}=/node/disks/ss-lab-compute01.ubd{name}" for number, name in enumerate("bcd", 1)),
            "vec0:transport=tap,ifname=n1-eth0,depth=128,gro=1,mac=52:54:0a:00:00:14",
        ]

    def test_interfaces_are_named_as_in_the_inventory(self, process: UserModeLinux) -> None:
        files = process.files()
        link = files["etc/systemd/network/10-eth0.link"]
        assert link == "[Match]\nMACAddress=52:54:0a:00:00:14\n\n[Link]\nName=eth0\n"
        lines = network.render_taps(process.spec, process.node).splitlines()
        assert lines[:2] == ["tuntap add mode tap name n1-eth0", "link set n1-eth0 addrgenmode none master br0"]

    def test_snapshot_of_a_container_is_refused(self, process: UserModeLinux, tmp_path: Path) -> None:
        with pytest.raises(LabError, match="snapshot old has no disk of compute01, which was no UML node"):
            process.boot([tmp_path / "old/compute01", tmp_path / "rootfs"])

    def test_missing_kernel_is_named(self, process: UserModeLinux, tmp_path: Path) -> None:
        upper = tmp_path / "compute01/upper"
        upper.mkdir(parents=True)
        (upper / "root.img").touch()
        (upper / "kernel").write_text("uml-old")
        with pytest.raises(LabError, match=r"kernel uml-old of compute01 is gone from .*cache"):
            process.boot([tmp_path / "rootfs"])


@pytest.mark.parametrize(("name", "imported"), [("cinder-rootwrap", "no eventlet"), ("cinder-volume", "eventlet")])
def test_only_root_commands_leave_out_eventlet(tmp_path: Path, name: str, imported: str) -> None:
    (tmp_path / "eventlet.py").touch()
    script = tmp_path / name
    script.write_text("try:\n    import eventlet\nexcept ImportError:\n    print('no', end=' ')\nprint('eventlet')\n")
    run = [sys.executable, str(script)]
    shown = subprocess.run(
        run, env=os.environ | {"PYTHONPATH": str(Path(kernel.__file__).parent)}, text=True, capture_output=True
    )
    assert (shown.stdout, shown.stderr) == (f"{imported}\n", "")
