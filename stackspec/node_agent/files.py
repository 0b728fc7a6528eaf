"""Files and directories: their facts, and changes that survive a power loss."""

from __future__ import annotations

import contextlib
import errno
import grp
import hashlib
import os
import pwd
import stat
import tempfile
from collections.abc import Callable
from typing import IO, Any

from . import shell

# Units, and what adds to those of packages.
UNITS = "/etc/systemd/system/"


def read_file(path: str) -> dict[str, Any]:
    """Content and attributes of a file, a directory or a link; `content` of a link is its target."""
    try:
        status = os.lstat(path)
    except OSError:
        return {"exists": False, "content": "", "mtime": 0.0, "ctime": 0.0}
    kind = "file" if stat.S_ISREG(status.st_mode) else "directory" if stat.S_ISDIR(status.st_mode) else "link"
    answer = {
        "exists": True,
        "kind": kind,
        "mode": stat.S_IMODE(status.st_mode),
        "owner": _name(pwd.getpwuid, status.st_uid),
        "group": _name(grp.getgrgid, status.st_gid),
        "mtime": status.st_mtime,
        "ctime": status.st_ctime,
        "content": "",
    }
    if kind == "file" and status.st_size < 32 << 20:
        with open(path, "rb") as stream:
            answer["content"] = stream.read().decode(errors="surrogateescape")
    elif kind == "link":
        answer["content"] = os.readlink(path)
    return answer


def digest(found: dict[str, Any]) -> str:
    """Digest of a file's content, as returned by `read_file`."""
    return hashlib.sha256(to_bytes(found["content"])).hexdigest() if found["exists"] else "absent"


def to_bytes(content: str | bytes) -> bytes:
    """Text as the original bytes, even if they are not UTF-8."""
    return content if isinstance(content, bytes) else content.encode(errors="surrogateescape")


def portable(answer: dict[str, Any]) -> dict[str, Any]:
    """The result of `read_file` in a form that the connection can send: text that is not UTF-8 is sent as bytes."""
    content = to_bytes(answer["content"])
    return answer if content.isascii() or _is_text(content) else {**answer, "content": content}


def _is_text(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def _name(lookup: Callable[[int], tuple[Any, ...]], number: int) -> str:
    """The name of a user or a group; its number if it has none."""
    try:
        return str(lookup(number)[0])
    except KeyError:
        return str(number)


def read_bytes(path: str) -> bytes | None:
    """The file's content as bytes, None if there is none."""
    try:
        with open(path, "rb") as stream:
            return stream.read()
    except FileNotFoundError:
        return None


def replace(
    path: str, content: str | bytes, mode: int | None = None, owner: str | None = None, group: str | None = None
) -> None:
    """Write a file atomically; unset attributes stay, and a link stays one."""
    before = read_file(path)
    if before["exists"] and before["kind"] == "link" and not path.startswith("/proc"):
        path = os.path.realpath(path)
        before = read_file(path)
    folder = os.path.dirname(path)
    os.makedirs(folder, exist_ok=True)
    mode = mode if mode is not None else before.get("mode", 0o644)
    uid = pwd.getpwnam(owner or before.get("owner", "root")).pw_uid
    gid = grp.getgrnam(group or before.get("group", "root")).gr_gid
    descriptor, temporary = tempfile.mkstemp(prefix=".stackspec-", dir=folder)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(to_bytes(content))
            os.fchown(stream.fileno(), uid, gid)
            os.fchmod(stream.fileno(), mode)
            _to_disk(stream)
        try:
            os.replace(temporary, path)
        except OSError as error:
            # A mount point, such as /etc/hosts in containers: only its content can be changed.
            if error.errno != errno.EBUSY:
                raise
            with open(path, "wb") as stream:
                stream.write(to_bytes(content))
                _to_disk(stream)
            os.unlink(temporary)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    _folder_to_disk(folder)
    if path == "/etc/fstab" or (path.startswith(UNITS) and not _is_loaded(path)):
        shell.execute(["systemctl", "daemon-reload"])


def _is_loaded(path: str) -> bool:
    """Whether systemd has the current content of a unit's file, which it reads by itself for a unit that is new.

    It may not notice that there is a new file besides that of a package.
    """
    if os.path.dirname(path) != UNITS[:-1]:
        return False
    # Reading all units again takes seconds on a slow node.
    shown = shell.execute(
        ["systemctl", "show", "--property=FragmentPath,NeedDaemonReload", "--", os.path.basename(path)]
    )
    return {f"FragmentPath={path}", "NeedDaemonReload=no"} <= set(shown["out"].splitlines())


def _to_disk(stream: IO[bytes]) -> None:
    stream.flush()
    os.fsync(stream.fileno())


def _folder_to_disk(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def directory(path: str, mode: int, owner: str, group: str) -> None:
    """Create a directory, or set its mode and owner."""
    os.makedirs(path, exist_ok=True)
    os.chown(path, pwd.getpwnam(owner).pw_uid, grp.getgrnam(group).gr_gid)
    os.chmod(path, mode)
