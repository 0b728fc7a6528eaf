"""Packages: what is installed, and apt, also after an interruption."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import threading
import time
from collections.abc import Sequence

from . import boot, files, shell

APT_LOG = "/var/log/stackspec-apt.log"

POLICY = "/usr/sbin/policy-rc.d"

KEPT_POLICY = POLICY + ".kept"

DPKG = "/var/lib/dpkg"

APT_LOCK = threading.Lock()

# Exists from the start of an installation until its follow-up commands are done.
INSTALLING = "/var/lib/stackspec/installing"

# The policy prevents starts only while its apt runs; after a killed run it restores the operator's own policy.
POLICY_MARK = "#!/bin/sh\n# stackspec\n"

POLICY_TEXT = (
    POLICY_MARK + "kill -0 PID 2>/dev/null && exit 101\n"
    'if [ -e "$0.kept" ] || [ -h "$0.kept" ]; then mv -f "$0.kept" "$0"; exec "$0" "$@"; fi\nrm -f "$0"\nexit 0\n'
)


def read_packages(names: Sequence[str]) -> dict[str, str | None]:
    """Versions from dpkg's status file: read once, without a process."""
    wanted = set(names)
    found: dict[str, str] = {}
    entry: dict[str, str] = {}
    try:
        with open("/var/lib/dpkg/status", encoding="utf-8", errors="replace") as stream:
            for line in stream:
                if line == "\n":
                    entry = {}
                elif line.startswith(("Package:", "Status:", "Version:")):
                    key, value = line.split(":", 1)
                    entry[key] = value.strip()
                    installed = entry.get("Status", "").endswith(" installed")
                    if "Version" in entry and installed and entry["Package"] in wanted:
                        found[entry["Package"]] = entry["Version"]
    except OSError:
        pass
    return {name: found.get(name) for name in names}


def apt(packages: Sequence[str], update: bool = False, off: Sequence[str] = (), say: shell.Say | None = None) -> None:
    """Install in one transaction without starting services, then do what the suppressed scripts would have done.

    New units named in `off` also stay off at boot, until a step has started them.
    """
    with APT_LOCK:
        boot.keep_off(off)
        _apt(packages, update, say)
        _follow_packages()


def finish_apt(say: shell.Say | None = None) -> None:
    """Finish an installation whose run was killed."""
    with APT_LOCK:
        _apt([], False, say)
        _follow_packages()


def unfinished() -> bool:
    """Whether an installation was started but not finished; one that is running now does not count."""
    if not APT_LOCK.acquire(blocking=False):
        return False
    try:
        return os.path.exists(INSTALLING)
    finally:
        APT_LOCK.release()


def _follow_packages() -> None:
    """Do what the suppressed scripts would have done; this ends an installation."""
    shell.execute(["systemctl", "daemon-reload"])
    # Suppressed scripts skip these; libvirt then refuses clients because polkit's name is not on the bus.
    shell.execute(["systemctl", "reload", "dbus"])
    shell.execute(["systemctl", "try-restart", "polkit"])
    if os.path.exists(INSTALLING):
        os.unlink(INSTALLING)


APT_OPTIONS = ["-q", "-y", "-o", "DPkg::Lock::Timeout=600", "-o", "Dpkg::Options::=--force-confdef"]

APT_OPTIONS += ["-o", "Dpkg::Options::=--force-confold", "-o", "Dpkg::Use-Pty=0"]


def _apt(packages: Sequence[str], update: bool, say: shell.Say | None) -> None:
    """Install packages without starting services, after repairing what a killed run has left."""
    await_dpkg()
    os.makedirs(os.path.dirname(INSTALLING), mode=0o700, exist_ok=True)
    files.replace(INSTALLING, "", 0o600)
    keep_policy()
    try:
        broken = interrupted()
        if broken:
            # Packages that lack a dependency cannot be configured here; apt repairs them.
            _held_back(["dpkg", "--force-confdef", "--force-confold", "--configure", "-a"], say)
        if update or broken:
            # A list that cannot be downloaded is an error here, not a warning, since packages would be missing later.
            _install(["update", "-o", "APT::Update::Error-Mode=any", *APT_OPTIONS[:4]], say)
        if broken:
            # Packages whose unpacking was killed are not repaired by --fix-broken alone.
            _install(["install", "--fix-broken", "--reinstall", *APT_OPTIONS, *half_unpacked()], say)
        if packages:
            _install(["install", *APT_OPTIONS, *packages], say)
    finally:
        restore_policy()


def _install(argv: Sequence[str], say: shell.Say | None) -> None:
    """Run apt-get; its failure ends the step."""
    status, output = _held_back(["apt-get", *argv], say)
    if status:
        raise shell.Failed("install packages", status, output, f"apt-get {argv[0]} ...")


def _held_back(argv: Sequence[str], say: shell.Say | None) -> tuple[int, str]:
    """Run an installation tool while services must not start; return its exit status and output."""
    script = (
        f'printf %s "$POLICY" | sed "s/PID/$$/" >{POLICY}.new && chmod 755 {POLICY}.new'
        f' && mv {POLICY}.new {POLICY} && exec "$@"'
    )
    env = dict(shell.ENVIRONMENT, DEBIAN_FRONTEND="noninteractive", POLICY=POLICY_TEXT, APT_LISTCHANGES_FRONTEND="none")
    # Otherwise systemd reloads all units for each package with a unit, a hundred times; here once, afterwards.
    env["SYSTEMD_OFFLINE"] = "1"
    with open(APT_LOG, "ab") as log:
        start = log.tell()
        # In its own session: if the connection is lost, apt finishes its work.
        child = subprocess.Popen(
            ["sh", "-c", script, "sh", *argv],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=env,
            start_new_session=True,
            pass_fds=shell.LOCKS,
        )
    follow(child, start, say)
    with open(APT_LOG, "rb") as log:
        log.seek(start)
        return child.returncode, log.read().decode(errors="replace")


def await_dpkg(timeout: float = 600.0) -> None:
    """Wait until no other installation runs: apt of a killed run may still be active."""
    until = time.monotonic() + timeout
    with open(f"{DPKG}/lock-frontend", "a") as lock:
        while time.monotonic() < until:
            with contextlib.suppress(BlockingIOError, PermissionError):
                fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            time.sleep(1)
    raise shell.Failed(
        f"another process has been installing packages for {timeout:g} s: it holds {DPKG}/lock-frontend; end it"
    )


def interrupted() -> bool:
    """Whether dpkg was interrupted: apt refuses everything until that is repaired."""
    updates = f"{DPKG}/updates"
    journal = os.path.isdir(updates) and any(name.isdigit() for name in os.listdir(updates))
    return journal or bool(shell.execute(["dpkg", "--audit"])["out"].strip())


def half_unpacked() -> list[str]:
    """Packages with only part of their files, because dpkg was killed while unpacking them."""
    listed = shell.execute(["dpkg-query", "--show", "--showformat", "${db:Status-Abbrev}|${binary:Package}\n"])["out"]
    states = [line.split("|") for line in listed.splitlines()]
    # Selected for installation, and half-installed or marked for reinstallation.
    return [name for state, name in states if state.startswith("i") and (state[1] == "H" or state[2:3] == "R")]


def keep_policy() -> None:
    """Move the operator's own policy for service starts aside; `restore_policy`, or our policy itself, restores it."""
    if not os.path.lexists(POLICY):
        return
    if not files.read_file(POLICY)["content"].startswith(POLICY_MARK):
        if os.path.lexists(KEPT_POLICY):
            os.unlink(KEPT_POLICY)
        os.link(POLICY, KEPT_POLICY, follow_symlinks=False)


def restore_policy() -> None:
    """Remove our policy, and restore the operator's, if there was one."""
    if os.path.lexists(KEPT_POLICY):
        os.replace(KEPT_POLICY, POLICY)
    elif os.path.lexists(POLICY):
        os.unlink(POLICY)


def follow(child: subprocess.Popen[bytes], start: int, say: shell.Say | None, silence: float = 1800.0) -> None:
    """Report apt's progress lines while it runs; kill it after `silence` seconds without output."""
    position, last, heard = start, 0.0, time.monotonic()
    while child.poll() is None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(0.5)
        with open(APT_LOG, "rb") as log:
            log.seek(position)
            text = log.read()
            position += len(text)
        heard = time.monotonic() if text else heard
        if time.monotonic() - heard > silence:
            os.killpg(child.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(30)
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            raise shell.Failed(
                f"apt-get was killed after {silence:g} s without output; its log: {APT_LOG}", child.returncode
            )
        lines = [line for line in text.decode(errors="replace").splitlines() if line.startswith(("Setting up", "Get:"))]
        if lines and say and time.monotonic() - last > 5.0:
            last = time.monotonic()
            say(lines[-1][:100])
