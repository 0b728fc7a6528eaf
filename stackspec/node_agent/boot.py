"""What boots start while a deployment is not finished."""

from __future__ import annotations

import os
from collections.abc import Sequence

from . import files, shell, systemd

# Units that a deployment installs and its steps start: off at boot until configured, although packages enable them.
HELD = "/var/lib/stackspec/held"

# Exists if a deployment has run since the last boot.
DEPLOYING = "/run/stackspec-deploying"

# systemd runs it at each boot and daemon-reload, to generate units.
GENERATOR = "/etc/systemd/system-generators/stackspec-held"

GENERATOR_TEXT = f"""\
#!/bin/sh
# Made by stackspec. The node lost power during a deployment: services that are not configured yet stay off, because
# they would take other services' ports, or restart in a loop. The next deployment starts them.
[ ! -e {DEPLOYING} ] && [ -e {HELD} ] || exit 0
while read -r unit; do
    case $unit in *.*) name=$unit ;; *) name=$unit.service ;; esac
    ln -sf /dev/null "$2/$name"
done <{HELD}
"""


def keep_off(units: Sequence[str]) -> None:
    """Keep new units among these from starting at boot until their step is done."""
    with systemd.RECORD_LOCK:
        known = set(files.read_file(HELD)["content"].split())
        new = [name for name in units if name not in known]
        new = [name for name, state in (systemd.read_units(new) if new else {}).items() if state["load"] == "not-found"]
        if new:
            open(DEPLOYING, "w").close()
            files.replace(HELD, "\n".join(sorted({*known, *new})) + "\n", 0o644)
            files.replace(GENERATOR, GENERATOR_TEXT, 0o755)


def in_service(units: Sequence[str]) -> None:
    """The steps of these units are done: start them at boot. After the last one, all traces of holding are removed."""
    with systemd.RECORD_LOCK:
        known = files.read_file(HELD)["content"].split()
        rest = [name for name in known if name not in units]
        if rest and rest != known:
            files.replace(HELD, "\n".join(rest) + "\n", 0o644)
        elif known and not rest:
            os.unlink(HELD)
            os.unlink(GENERATOR)


def let_start() -> None:
    """Note that nothing unconfigured has been started since this boot; steps may start their units now."""
    if os.path.exists(HELD) and not os.path.exists(DEPLOYING):
        open(DEPLOYING, "w").close()
        shell.execute(["systemctl", "daemon-reload"])
