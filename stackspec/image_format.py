"""Detects the format of a disk image by the first bytes of its file."""

from __future__ import annotations

from pathlib import Path

_MAGIC: tuple[tuple[int, bytes, str], ...] = (
    (0, b"QFI\xfb", "qcow2"),
    (0, b"KDMV", "vmdk"),
    (0, b"# Disk DescriptorFile", "vmdk"),
    (32769, b"CD001", "iso"),
    (0, b"\x1f\x8b", "compressed (gzip)"),
    (0, b"\xfd7zXZ\0", "compressed (xz)"),
    (0, b"BZh", "compressed (bzip2)"),
    (0, b"\x28\xb5\x2f\xfd", "compressed (zstd)"),
    (0, b"<!DOCTYPE", "a web page"),
    (0, b"<!doctype", "a web page"),
    (0, b"<html", "a web page"),
)
_READ = 32769 + 5


def image_format(path: Path) -> str:
    """The format of the image in `path`: qcow2, vmdk, iso, something that is not an image, or raw.

    :raises OSError: the file cannot be read
    """
    with path.open("rb") as stream:
        start = stream.read(_READ)
    if not start:
        return "empty"
    return next((name for offset, magic, name in _MAGIC if start[offset : offset + len(magic)] == magic), "raw")


def wrong_format(path: Path, wanted: str) -> str:
    """What is wrong with `path` as an image of the format `wanted`, and how to fix it; "" if it is valid.

    :raises OSError: the file cannot be read
    """
    found = image_format(path)
    # A disk that starts with an ISO 9660 file system is valid as raw and as iso.
    if found == wanted or (wanted, found) == ("raw", "iso"):
        return ""
    if found in ("qcow2", "vmdk", "iso"):
        return f"{path} is {found}, not {wanted}; set `disk_format: {found}`, or use another image"
    if found == "raw":
        found = "raw or of an unknown format"
    advice = "unpack it first" if found.startswith("compressed") else "use another image"
    return f"{path} is {found}, not {wanted}; {advice}"
