"""The lab's error class, and its function for running commands."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from ..errors import ActionError, StackspecError

# The host's package for each command that the lab runs.
_PACKAGE_OF = {
    "ip": "iproute2",
    "mke2fs": "e2fsprogs",
    "mmdebstrap": "mmdebstrap",
    "nft": "nftables",
    "nsenter": "util-linux",
    "setsid": "util-linux",
    "ssh-keygen": "openssh-client",
    "taskset": "util-linux",
    "unshare": "util-linux",
}


class LabError(StackspecError):
    """An operation of the lab failed.

    The message has what failed, the command, if any, the end of its output, and what to do next.
    """


def require(*commands: str) -> None:
    """Check that the machine has the commands the lab needs.

    :param commands: names looked up on PATH
    :raises LabError: naming the packages to install
    """
    missing = [command for command in commands if shutil.which(command) is None]
    if missing:
        packages = sorted({_PACKAGE_OF.get(command, command) for command in missing})
        raise LabError(
            f"The lab needs {', '.join(missing)} on this machine. Install: apt-get install {' '.join(packages)}"
        )


def run(
    argv: Sequence[str | Path],
    what: str,
    *,
    stdin: str = "",
    timeout: float = 60.0,
    advice: str = "",
    check: bool = True,
) -> str:
    """Run a command and return its standard output.

    :param argv: the command
    :param what: its purpose, for errors: "make the network of the lab"
    :param stdin: text for its standard input
    :param timeout: seconds it may take
    :param advice: what a user can do when it fails
    :param check: False: a failure is not an error
    :raises LabError: when it cannot start, fails or takes too long
    """
    words = [str(word) for word in argv]
    shown = shlex.join(words)
    try:
        done = subprocess.run(words, input=stdin, capture_output=True, text=True, errors="replace", timeout=timeout)
    except FileNotFoundError as error:
        require(words[0])
        raise LabError(f"Could not {what}: {error}") from error
    except subprocess.TimeoutExpired as error:
        failed = ActionError(f"Could not {what}: timed out after {timeout:.0f} s", command=shown, advice=advice)
        raise LabError(str(failed)) from error
    if check and done.returncode != 0:
        failed = ActionError(
            f"Could not {what}",
            command=shown,
            exit_status=done.returncode,
            output=done.stderr + done.stdout,
            advice=advice,
        )
        raise LabError(str(failed))
    return done.stdout
