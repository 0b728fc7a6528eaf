"""The root file system shared by all nodes of all labs, built once and cached."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from .error import LabError, require, run
from .made_once import made_once
from .mirror import Mirror, pick, read_sources
from .service import for_build

PACKAGES = [
    *("apt-utils", "bash-completion", "ca-certificates", "dbus", "debian-archive-keyring", "iproute2", "iputils-ping"),
    *("kmod", "less", "netbase", "nftables", "openssh-client", "openssh-server", "procps", "python3", "sudo"),
    *("systemd", "systemd-sysv", "udev", "vim-tiny"),
]

# Without tests of packages: nobody imports them, and they are a third of all modules.
OPTIONS = (
    '--aptopt=APT::Install-Recommends "false"',
    '--aptopt=Acquire::Languages "none"',
    "--dpkgopt=force-unsafe-io",
    "--dpkgopt=path-exclude=/usr/share/man/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*/*",
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-exclude=/usr/lib/python3/dist-packages/*/tests/*",
    "--dpkgopt=path-include=/usr/share/doc/*/copyright",
    "--dpkgopt=path-include=/usr/share/doc/*/examples/*",
)

_HOOK = Path(__file__).with_name("rootfs.sh")
_COMPILE = Path(__file__).with_name("py3compile_noted.py")


def key(suite: str) -> str:
    """Name of the root file system for a Debian release; it changes with the recipe."""
    recipe = json.dumps([suite, PACKAGES, OPTIONS, _HOOK.read_text(), _COMPILE.read_text()])
    return f"{suite}-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"


def path_of(cache: Path, name: str) -> Path:
    """The path of the root file system of that name."""
    return cache / "rootfs" / name


def ensure(cache: Path, suite: str, mirror: Mirror | None, say: Callable[[str], None]) -> str:
    """Build the root file system unless it is cached.

    :param cache: the lab's cache directory
    :param suite: the release of Debian, such as trixie
    :param mirror: package source, None: mmdebstrap's default
    :param say: called with a line before the work starts and after
    :returns: its name in the cache
    :raises LabError: when mmdebstrap fails
    """
    name = key(suite)
    made_once(path_of(cache, name), "rootfs", f"making {name}", lambda tree: _build(tree, suite, mirror, cache), say)
    return name


def mirror_of(cache: Path, name: str) -> Mirror:
    """The archive that a root file system was made from.

    :raises LabError: when it names none
    """
    suite = name.split("-")[0]
    found = pick(read_sources(path_of(cache, name)), suite)
    if found is None:
        raise LabError(f"The root file system {name} has no Debian archive. Set `mirror` in the inventory's `lab`")
    return replace(found, suite=suite)


def installed(tree: Path) -> set[str]:
    """Names of the packages in a root file system."""
    status = (tree / "var/lib/dpkg/status").read_text()
    return set(re.findall(r"^Package: (\S+)$", status, re.MULTILINE))


def _build(tree: Path, suite: str, mirror: Mirror | None, cache: Path) -> None:
    require("mmdebstrap")
    command: list[str | Path] = ["mmdebstrap", "--mode=root", "--variant=minbase", "--architectures=amd64"]
    command += [f"--include={','.join(PACKAGES)}", *OPTIONS, f"--customize-hook={_HOOK_COMMAND}", suite, tree]
    command += mirror.lines(plain=True) if mirror else []
    with for_build(cache, mirror) as through:
        run(
            [*through, *command],
            "make the root file system of the nodes",
            timeout=900,
            advice="It needs the Debian archive and its keys (package debian-archive-keyring); set another archive "
            "as `mirror` in the inventory's `lab` section or in $STACKSPEC_MIRROR.",
        )
    if mirror:
        # The real addresses: `mirror_of` reads them.
        (tree / "etc/apt/sources.list").write_text("\n".join(mirror.lines()) + "\n")


# Through sh: a checkout or an installed package may lose the executable bit.
_HOOK_COMMAND = f'sh "{_HOOK}" "$1"'
