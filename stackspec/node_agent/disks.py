"""What is on a disk."""

from __future__ import annotations

import json
import os
import stat
from typing import Any

from . import files, shell


def read_disk(path: str) -> dict[str, Any]:
    """A block device: its content according to blkid, mount points, and other users of it or of a partition."""
    answer: dict[str, Any] = {
        "exists": os.path.exists(path),
        "path": os.path.realpath(path),
        "block": False,
        "content": {},
        "id": "",
        "mounted": [],
        "holders": [],
    }
    if not answer["exists"]:
        return answer
    status = os.stat(path)
    answer["block"] = stat.S_ISBLK(status.st_mode)
    if not answer["block"]:
        return answer
    # Probe the device itself: udev and blkid's cache may be outdated.
    done = shell.execute(["blkid", "--probe", "--output", "export", path])
    if done["status"] not in (0, 2, 8):
        raise shell.Failed(f"look at {path}", done["status"], done["err"] + done["out"], f"blkid --probe {path}")
    if done["status"] == 2:
        answer["content"] = without_signature(path)
    else:
        lines = [line.split("=", 1) for line in done["out"].splitlines() if "=" in line]
        answer["content"] = dict(lines) or {"TYPE": "several signatures"}
    answer["id"] = disk_id(path, answer["content"])
    number = f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
    folder = f"/sys/dev/block/{number}"
    parts = [name for name in os.listdir(folder) if os.path.exists(f"{folder}/{name}/partition")]
    numbers = {number, *(files.read_file(f"{folder}/{name}/dev")["content"].strip() for name in parts)}
    with open("/proc/self/mountinfo") as stream:
        rows = [line.split() for line in stream]
    answer["mounted"] = sorted({row[4] for row in rows if row[2] in numbers})
    answer["holders"] = sorted({name for part in ("", *parts) for name in os.listdir(f"{folder}/{part}/holders")})
    return answer


def without_signature(path: str, samples: int = 256, size: int = 1 << 16) -> dict[str, str]:
    """Content of a device that blkid does not recognise: {} if it is blank, judged by samples from start to end."""
    try:
        with open(path, "rb") as stream:
            end = stream.seek(0, os.SEEK_END)
            places = {max(0, min(end - size, end * each // samples)) for each in range(samples + 1)}
            for place in sorted({*range(0, min(end, 4 << 20), size), *places}):
                stream.seek(place)
                if stream.read(size).strip(b"\0"):
                    return {"TYPE": "data without a signature"}
    except OSError as error:
        return {"TYPE": f"unreadable data: {error.strerror}"}
    return {}


def disk_id(path: str, content: dict[str, str]) -> str:
    """A disk's id, independent of where it is plugged in: serial number or WWN, otherwise the UUID of its content."""
    done = shell.execute(["lsblk", "--json", "--nodeps", "--output", "SERIAL,WWN", path])
    if done["status"]:
        raise shell.Failed(f"look at {path}", done["status"], done["err"] + done["out"], f"lsblk {path}")
    (row,) = json.loads(done["out"])["blockdevices"]
    found: str = row.get("serial") or row.get("wwn") or content.get("UUID") or content.get("PTUUID") or ""
    return found.strip()
