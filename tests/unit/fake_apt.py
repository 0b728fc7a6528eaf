"""A folder that simulates a node's packages: fake apt-get, dpkg and systemctl, which record their calls."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from stackspec.node_agent import boot, packaging, shell

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


def lines(here: Path) -> list[str]:
    """The recorded calls."""
    return (here / "LOG").read_text().splitlines()
