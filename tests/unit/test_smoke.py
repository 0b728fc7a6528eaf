"""`-m smoke` tests each service once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from stackspec.step import STEPS, load_steps

ROOT = Path(__file__).parents[2]
SHOW_SERVICES = """
from stackspec.plugin.selection import direct_steps
from stackspec.step import STEPS

def pytest_collection_finish(session):
    for item in session.items:
        # A storage node's step provides nothing itself: its service is that of the step that it comes after.
        steps = [STEPS[name] for name in direct_steps(item)]
        names = [name for step in steps for name in ([step.name] if step.provides else step.needs)]
        print("proves", *(STEPS[name].provides for name in names if STEPS[name].provides))
"""


def test_every_service_has_a_smoke_test(tmp_path: Path) -> None:
    (tmp_path / "show_services.py").write_text(SHOW_SERVICES)
    command = [sys.executable, "-m", "pytest", "-p", "show_services", "--collect-only", "-q", "-m", "smoke"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "STACKSPEC_STATE": str(tmp_path / "state")}
    result = subprocess.run(
        [*command, "tests/api", "tests/e2e"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    proven = {word for line in result.stdout.splitlines() if line.startswith("proves") for word in line.split()[1:]}
    load_steps()
    wanted = {step.provides: step.name for step in STEPS.values() if step.provides}
    without = [
        f"no test in tests/api with the mark smoke takes {name}" for kind, name in wanted.items() if kind not in proven
    ]
    assert without == []
    assert proven == wanted.keys()
