"""Packages on a node: an interrupted dpkg is repaired first, a hanging apt stopped, an operator's policy restored."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import NoReturn

import pytest

from stackspec.node_agent import loop, packaging, shell
from stackspec.resources.base import unfinished
from stackspec.resources.packages import NothingHalfInstalled
from stackspec.site import Site

from . import fake_apt
from .bare import actions, look
from .fake_apt import lines

here = fake_apt.here

FOLLOWS = ["systemctl daemon-reload", "systemctl reload dbus", "systemctl try-restart polkit"]
"""The commands after an installation."""


def test_interrupted_dpkg_is_repaired_first(here: Path) -> None:
    """Before apt, which refuses everything else; what dpkg alone cannot repair, apt repairs."""
    (here / "AUDIT").write_text("The following packages are only half configured\n")
    packaging.apt(["etcd-server"], update=True)
    names = [line.split()[:2] for line in lines(here) if not line.startswith(("systemctl", "policy"))]
    assert names[:3] == [["dpkg", "--audit"], ["dpkg", "--force-confdef"], ["apt-get", "update"]]
    assert "--configure -a" in lines(here)[1]
    assert [line.endswith("etcd-server") for line in lines(here) if "apt-get install" in line] == [False, True]


def test_partly_unpacked_package_is_reinstalled(here: Path) -> None:
    """apt's --fix-broken exits with 0 and leaves such a package as it is; every later installation would fail."""
    (here / "AUDIT").write_text("The following packages are in a mess due to serious problems\n")
    (here / "STATES").write_text("ii |bash\niHR|python3-os-ken\niUR|etcd\nrc |old\niF |half-configured\n")
    packaging.finish_apt()
    (repaired,) = [line.split() for line in lines(here) if line.startswith("apt-get install")]
    assert {"--fix-broken", "--reinstall"} < set(repaired)
    assert repaired[-2:] == ["python3-os-ken", "etcd"]
    assert lines(here)[-3:] == FOLLOWS


def test_journal_of_dpkg_is_an_interruption(here: Path) -> None:
    """dpkg was killed before it merged its updates into the status file."""
    assert not packaging.interrupted()
    (here / "updates").mkdir()
    (here / "updates/0003").touch()
    assert packaging.interrupted()


def test_intact_dpkg_is_left_alone(here: Path) -> None:
    """Nothing is configured without need."""
    packaging.apt(["etcd-server"])
    assert not [line for line in lines(here) if "--configure" in line or "--fix-broken" in line]
    assert "policy 101" in lines(here)
    assert not (here / "POLICY").exists()


def due(site: Site) -> list[str]:
    """What a check of the node finds about an installation."""
    (answer,) = loop.facts([("unfinished", ())])
    (finding,) = look(site, [NothingHalfInstalled()], {unfinished(): answer})
    return [action.op for each in finding.changes for action in actions(each)]


def test_next_run_finishes_an_interrupted_installation(here: Path, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The packages are installed; only the mark shows that systemd, the bus and polkit were not reloaded."""
    assert due(site) == []

    def kill() -> NoReturn:
        raise KeyboardInterrupt

    with monkeypatch.context() as killed:
        killed.setattr(packaging, "restore_policy", kill)
        with pytest.raises(KeyboardInterrupt):
            packaging.apt(["etcd-server"])
    assert not set(FOLLOWS) & set(lines(here))
    assert due(site) == ["finish_apt"]
    packaging.finish_apt()
    assert lines(here)[-3:] == FOLLOWS
    assert due(site) == []


def test_installation_leaves_nothing_to_do(here: Path, site: Site) -> None:
    """An installation in progress does not look like a killed one either."""
    with packaging.APT_LOCK:
        (here / "installing").touch()
        assert due(site) == []
    packaging.apt(["etcd-server"])
    assert lines(here)[-3:] == FOLLOWS
    assert due(site) == []


@pytest.mark.parametrize("link", [False, True])
def test_operator_policy_is_restored(here: Path, link: bool) -> None:
    """Meanwhile ours prevents starts; a link stays a link."""
    own = here / ("own" if link else "POLICY")
    own.write_text("#!/bin/sh\nexit 104\n")
    own.chmod(0o755)
    if link:
        (here / "POLICY").symlink_to(own)
    packaging.apt(["etcd-server"])
    assert "policy 101" in lines(here)
    assert (here / "POLICY").read_text() == "#!/bin/sh\nexit 104\n"
    assert (here / "POLICY").is_symlink() == link
    assert not (here / "POLICY.kept").exists()


def test_operator_policy_is_restored_after_a_kill(here: Path) -> None:
    """The run was killed with our policy in place: the next call restores the operator's file and uses it."""
    dead = subprocess.Popen(["true"])
    dead.wait()
    ours, kept = here / "POLICY", here / "POLICY.kept"
    ours.write_text(packaging.POLICY_TEXT.replace("PID", str(dead.pid)))
    kept.write_text("#!/bin/sh\nexit 104\n")
    for each in (ours, kept):
        each.chmod(0o755)
    packaging.keep_policy()
    assert kept.exists()
    assert subprocess.run([ours, "x", "start"]).returncode == 104
    assert not kept.exists()


def test_hanging_apt_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "log"
    log.write_text("")
    monkeypatch.setattr(packaging, "APT_LOG", str(log))
    child = subprocess.Popen(["sh", "-c", "sleep 30; true"], start_new_session=True)
    with pytest.raises(shell.Failed, match=r"apt-get was killed after 0\.5 s without output"):
        packaging.follow(child, 0, None, silence=0.5)
    assert child.poll() is not None
    with log.open("a") as stream:
        child = subprocess.Popen(
            ["sh", "-c", "for i in 1 2 3 4; do sleep 0.4; echo Get:$i; done"], stdout=stream, start_new_session=True
        )
    packaging.follow(child, 0, None, silence=1.2)
    assert child.returncode == 0
