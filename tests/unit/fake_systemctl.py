"""A systemctl for the agent's tests: a shell script that keeps its state in the test's folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from stackspec.node_agent import shell, systemd


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Let the agent run `script` as systemctl, and record the start of services in the folder.

    :param folder: the test's folder
    :param script: a shell script; HERE in it becomes the folder
    """
    (folder / "bin").mkdir()
    tool = folder / "bin/systemctl"
    tool.write_text(script.replace("HERE", str(folder)))
    tool.chmod(0o755)
    monkeypatch.setattr(shell, "ENVIRONMENT", {"PATH": f"{folder}/bin:{os.environ['PATH']}"})
    monkeypatch.setattr(systemd, "STARTED", str(folder / "started"))
