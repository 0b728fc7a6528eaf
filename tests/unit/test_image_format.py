"""An image file has the format that the inventory says, or is refused before any upload."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from stackspec.cloud_inventory import load_site
from stackspec.errors import InputError

from . import small_inventory
from .small_inventory import TEXT, line_of

write = small_inventory.write

FORMATS = {
    "qcow2": b"QFI\xfb\0\0\0\3",
    "vmdk": b"KDMV\1\0\0\0",
    "iso": bytes(32769) + b"CD001\1",
    "raw": b"\xeb\x63\x90" + bytes(600),
    "gzip": b"\x1f\x8b\x08\0",
    "xz": b"\xfd7zXZ\0\0",
    "page": b"<!DOCTYPE html><title>Sign in</title>",
    "empty": b"",
}


@pytest.mark.parametrize(
    ("wanted", "found", "message"),
    [
        ("qcow2", "raw", "is raw or of an unknown format, not qcow2; use another image"),
        ("qcow2", "page", "is a web page, not qcow2; use another image"),
        ("qcow2", "xz", "is compressed (xz), not qcow2; unpack it first"),
        ("raw", "qcow2", "is qcow2, not raw; set `disk_format: qcow2`, or use another image"),
        ("raw", "gzip", "is compressed (gzip), not raw; unpack it first"),
        ("vmdk", "iso", "is iso, not vmdk; set `disk_format: iso`"),
        ("qcow2", "empty", "is empty, not qcow2; use another image"),
        ("raw", "empty", "is empty, not raw; use another image"),
    ],
)
@pytest.mark.parametrize("section", ["images", "octavia"])
def test_image_of_another_format(
    section: str, wanted: str, found: str, message: str, write: Callable[..., Path], tmp_path: Path
) -> None:
    """Refused before any upload, at the line of the image."""
    (tmp_path / "it.img").write_bytes(FORMATS[found])
    image = f"{{source: it.img, disk_format: {wanted}}}"
    entry = f"images:\n  it: {image}\n" if section == "images" else f"octavia:\n  image: {image}\n"
    path = write(TEXT.replace("images:\n  cirros: {source: guest.img}\n", entry))
    with pytest.raises(InputError) as raised:
        load_site(path)
    where = "images.it" if section == "images" else "octavia.image"
    assert str(raised.value).startswith(f"{path}:{line_of(path.read_text(), 'it.img')}: {where}.source: ")
    assert f"it.img {message}" in str(raised.value)


@pytest.mark.parametrize("name", ["qcow2", "vmdk", "iso", "raw"])
def test_image_of_its_format(name: str, write: Callable[..., Path], tmp_path: Path) -> None:
    """Each format is detected by its first bytes; a disk that starts with a CD image counts as raw, too."""
    (tmp_path / "it.img").write_bytes(FORMATS[name])
    load_site(write(TEXT.replace("{source: guest.img}", f"{{source: it.img, disk_format: {name}}}")))
    if name == "iso":
        load_site(write(TEXT.replace("{source: guest.img}", "{source: it.img, disk_format: raw}")))
