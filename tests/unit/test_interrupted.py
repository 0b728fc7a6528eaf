"""Interrupted work on a node: dpkg is repaired first, an operator's policy is restored, and files keep their bytes."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, NoReturn

import pytest

from stackspec.inventory import Node, ProviderAttachment, Ssh
from stackspec.lines import append_line, write_whole
from stackspec.node_agent import boot, files, loop, packaging, shell, systemd
from stackspec.openstack import DbSync
from stackspec.resources.actions import Write
from stackspec.resources.base import file, unfinished
from stackspec.resources.packages import NothingHalfInstalled
from stackspec.secrets import redact
from stackspec.site import Site
from stackspec.transport import Connection

from .bare import ChangeOf, actions, lab_site, look, text_file

TOOL = """\
#!/bin/sh
echo "$(basename "$0") $*" >>LOG
case "$(basename "$0") $1" in
"dpkg --audit") cat AUDIT;;
"dpkg-query --show") cat STATES;;
"dpkg --force-confdef") exit 1;;
"apt-get install") POLICY x start; echo "policy $?" >>LOG;;
esac
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that simulates a node: fake apt-get, dpkg and systemctl, which record their calls."""
    text = TOOL
    for word in ("LOG", "AUDIT", "STATES", "POLICY"):
        text = text.replace(word, str(tmp_path / word))
    for name in ("apt-get", "dpkg", "dpkg-query", "systemctl"):
        tool = tmp_path / "bin" / name
        tool.parent.mkdir(exist_ok=True)
        tool.write_text(text)
        tool.chmod(0o755)
    (tmp_path / "AUDIT").touch()
    (tmp_path / "STATES").touch()
    environment = {**shell.ENVIRONMENT, "PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}
    monkeypatch.setattr(shell, "ENVIRONMENT", environment)
    monkeypatch.setattr(shell, "execute", _executing(environment))
    monkeypatch.setattr(packaging, "INSTALLING", str(tmp_path / "installing"))
    for name in ("HELD", "DEPLOYING", "GENERATOR"):
        monkeypatch.setattr(boot, name, str(tmp_path / name.lower()))
    for name, path in (("POLICY", "POLICY"), ("KEPT_POLICY", "POLICY.kept"), ("DPKG", ""), ("APT_LOG", "apt.log")):
        monkeypatch.setattr(packaging, name, str(tmp_path / path).rstrip("/"))
    return tmp_path


def _executing(environment: dict[str, str]) -> Callable[..., dict[str, object]]:
    def execute(argv: list[str], **_options: object) -> dict[str, object]:
        done = subprocess.run(argv, env=environment, capture_output=True, text=True)
        return {"status": done.returncode, "out": done.stdout, "err": done.stderr}

    return execute


def calls(here: Path) -> list[str]:
    """The recorded calls, without apt's options."""
    return [" ".join(w for w in line.split() if w[0] != "-" or w[:3] in ("--c", "--f", "--a")) for line in lines(here)]


def lines(here: Path) -> list[str]:
    return (here / "LOG").read_text().splitlines()


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


FOLLOWS = ["systemctl daemon-reload", "systemctl reload dbus", "systemctl try-restart polkit"]
"""The commands after an installation."""


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


def test_file_that_is_not_utf_8_keeps_its_bytes(tmp_path: Path) -> None:
    """Read and written over the connection while a line is added."""
    path = tmp_path / "file"
    path.write_bytes(b"# gr\xfc\xdfe\n")
    provider = ProviderAttachment(address=IPv4Address("192.0.2.1"), interface="eth0")
    node = Node(name="here", roles=("controller",), management=provider, provider=provider)
    connection = Connection(node, Ssh(), spec="popen")
    try:
        (found,) = connection.facts([file(str(path))]).values()
        connection.apply([Write(str(path), found["content"] + "x\n")])
    finally:
        connection.close()
    assert path.read_bytes() == b"# gr\xfc\xdfe\nx\n"


def test_file_is_written_atomically_and_readable_only_by_its_owner(tmp_path: Path) -> None:
    """Even over a file that others could read; nothing else is left in the folder."""
    path = tmp_path / "a" / "report.html"
    path.parent.mkdir()
    path.write_text("old")
    write_whole(path, "new")
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("new", 0o600)
    assert list(path.parent.iterdir()) == [path]


def test_tokens_are_masked() -> None:
    """Those of keystone and of a console."""
    token = "gAAAAA" + "aB3_-" * 30 + "=="
    text = redact(f"X-Auth-Token: {token} http://c:6080/vnc?path=%3F&token=0a1b2c3d-1111-2222-3333-444455556666")
    assert token not in text
    assert "0a1b2c3d" not in text


class TestFirstSync:
    """A schema whose first sync did not finish."""

    resource = DbSync(("nova-manage", "db", "sync"), "nova", "nova-api", "nova", "1", ("nova_cell0",))

    def actions(self, change: ChangeOf, stamp: str, tables: str) -> Any:
        """The actions for an empty version table, with this stamp and this number of tables."""
        site = lab_site()
        version, kept, count = self.resource.queries(site, site.controller)
        answers = {version: {"status": 0, "out": "", "err": ""}, count: {"status": 0, "out": tables, "err": ""}}
        known = {**answers, kept: text_file(stamp)} if stamp else answers
        return change(self.resource, known).actions

    def test_first_sync_in_an_empty_database(self, change: ChangeOf) -> None:
        """The stamp tells the next run that no data can be lost; this run drops nothing."""
        begin, sync, end = self.actions(change, "", "0\n")
        assert (begin.content, end.content) == ("first sync unfinished\n", "1\n")
        assert sync.repair == ()

    def test_first_sync_is_restarted(self, change: ChangeOf) -> None:
        """It resumes if possible; otherwise its tables and those of the other database are recreated."""
        begin, sync, _ = self.actions(change, "first sync unfinished\n", "7\n")
        assert begin.content == "first sync unfinished\n"
        (repair,) = sync.repair
        for name in ("nova", "nova_cell0"):
            assert f"DROP DATABASE `{name}`; CREATE DATABASE `{name}`;" in repair.stdin

    @pytest.mark.parametrize("stamp", ["", "unfinished\n", "0.9\n"])
    def test_tables_that_may_contain_data_are_never_dropped(self, change: ChangeOf, stamp: str) -> None:
        """An interrupted upgrade, or somebody else's tables."""
        begin, sync, _ = self.actions(change, stamp, "7\n")
        assert begin.content == "unfinished\n"
        assert sync.repair == ()


def test_failed_command_is_repaired_and_run_once_more(tmp_path: Path) -> None:
    """Not repaired if it succeeds; a second failure is a failure."""
    made = str(tmp_path / "made")
    repair = ({"op": "command", "argv": ("touch", made)},)
    shell.command(("true",), repair=repair)
    assert not Path(made).exists()
    shell.command(("test", "-e", made), repair=repair)
    with pytest.raises(shell.Failed):
        shell.command(("false",), repair=repair)


def test_written_file_is_synced_before_it_is_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """File and folder: after a power cut either the old or the new content exists, never an empty file."""
    synced: list[str] = []
    sync = os.fsync

    def record(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    write_whole(tmp_path / "secrets.json", "{}")
    assert len(synced) == 2
    assert synced[1] == str(tmp_path)
    synced.clear()
    append_line(tmp_path / "ledger", "{}", sync=True)
    assert synced == [str(tmp_path / "ledger")]
    synced.clear()
    files.replace(str(tmp_path / "hosts"), "127.0.0.1 localhost\n")
    assert len(synced) == 2
    assert synced[1] == str(tmp_path)


def masked(here: Path) -> list[str]:
    """Units masked at boot or by a daemon-reload."""
    for name in ("normal", "early", "late"):
        (here / name).mkdir(exist_ok=True)
    text = boot.GENERATOR_TEXT
    for path, name in (("/run/stackspec-deploying", "deploying"), ("/var/lib/stackspec/", "")):
        text = text.replace(path, f"{here}/{name}")
    for link in (here / "early").iterdir():
        link.unlink()
    subprocess.run(["sh", "-c", text, "sh", *(str(here / name) for name in ("normal", "early", "late"))], check=True)
    assert all(os.readlink(link) == "/dev/null" for link in (here / "early").iterdir())
    return sorted(link.name for link in (here / "early").iterdir())


def test_unconfigured_services_stay_off_after_a_power_loss(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Packages enable them; at boot they would take other services' ports, or restart in a loop."""
    loaded = {"ssh": "loaded", "nginx": "not-found", "swift-proxy": "not-found", "a.socket": "not-found"}
    monkeypatch.setattr(systemd, "read_units", lambda names: {name: {"load": loaded[name]} for name in names})
    assert masked(here) == [], "a node that nobody deploys"
    packaging.apt(["all"], off=list(loaded))
    assert (here / "generator").stat().st_mode & 0o777 == 0o755
    assert masked(here) == [], "the deployment is at work"
    (here / "deploying").unlink()  # as at boot, when /run is empty
    assert masked(here) == ["a.socket", "nginx.service", "swift-proxy.service"]
    boot.in_service(["nginx", "other"])
    assert masked(here) == ["a.socket", "swift-proxy.service"], "a step that is done is started at each boot"
    boot.let_start()
    assert "systemctl daemon-reload" in lines(here)[-1]
    assert masked(here) == [], "the next deployment starts it"
    packaging.apt(["more"], off=["ssh", "a.socket"])
    assert (here / "held").read_text().split() == ["a.socket", "swift-proxy"]
    boot.in_service(["a.socket", "swift-proxy"])
    assert not (here / "held").exists()
    assert not (here / "generator").exists()


def test_node_without_held_units_is_left_alone(here: Path) -> None:
    """Also by runs that only check it."""
    (here / "LOG").touch()
    boot.let_start()
    assert lines(here) == []
    assert not (here / "deploying").exists()
