"""A file of another node is copied byte for byte, and again when it changes."""

from __future__ import annotations

from pathlib import Path

from stackspec.engine import Engine
from stackspec.node_agent import files, systemd
from stackspec.resources import FileFrom
from stackspec.site import Site
from stackspec.step import STEPS
from stackspec.task import plan_of

from . import engine_runs
from .bare import context
from .engine_runs import Prepared, declare
from .fake_nodes import BARE, fake

simulated = engine_runs.site


def test_file_of_another_node_is_copied_and_compared(simulated: Site) -> None:
    """Unchanged, with mode and owner; copied again when the source changes, and only then."""
    Prepared.prepared = {"one": {"files": {**BARE["files"], "/etc/ring": {"content": "\x1f\x8b one"}}}}
    declare("s", FileFrom("/etc/ring", "one"), role="compute")

    def deploy() -> Engine:
        engine = Engine(simulated, plan_of(simulated), STEPS)
        engine.connections.open()
        for name in ("two", "three"):
            fake(engine, name).state["files"] |= kept
        engine.start()
        engine.join()
        return engine

    kept: dict[str, object] = {}
    first = deploy()
    content = "\x1f\x8b one".encode()
    written = fake(first, "two").state["files"]["/etc/ring"]
    assert (written["content"], written["mode"], written["owner"]) == (content, 0o644, "root")
    assert [each.made[0].title for each in first.tasks] == ["copy /etc/ring from one"] * 2
    kept["/etc/ring"] = {**written}
    assert [each.made for each in deploy().tasks] == [[], []]
    kept["/etc/ring"] = {**written, "content": b"older"}
    assert [len(each.made) for each in deploy().tasks] == [1, 1]


def test_file_of_another_node_is_unknown_in_a_plan(site: Site) -> None:
    """No node is contacted, and nothing would be written."""
    (found,) = FileFrom("/etc/ring", "controller").changes(context(site, site.nodes["compute01"]))
    assert [str(each) for each in found.differences][-1].endswith("wanted (known after apply), found absent")
    assert found.actions == ()


def test_bytes_are_preserved(tmp_path: Path) -> None:
    """Ring files are binary."""
    path, content = str(tmp_path / "ring"), b"\x1f\x8b\x08\x00\xff\r\n"
    assert files.read_bytes(path) is None
    systemd.write(path, content, mode=0o640)
    assert files.read_bytes(path) == content
    assert Path(path).stat().st_mode & 0o777 == 0o640
