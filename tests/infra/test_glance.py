"""Glance on the node: image files."""

from __future__ import annotations

from stackspec.plugin.testinfra_backend import NodeHost
from stackspec.site import Site
from stackspec.waiting import wait_for


def test_images_are_whole(glance: object, site: Site, controller: NodeHost) -> None:
    """The size of each image file matches its database record."""
    query = "SELECT id, size, name FROM images WHERE status = 'active' AND deleted = 0"

    def complaints() -> list[str]:
        rows = controller.check_output("mariadb -N -B glance -e %s", query).splitlines()
        assert rows, "glance has no image"
        found = []
        for key, size, name in (row.split("\t") for row in rows):
            there = controller.run("stat -c %%s /var/lib/glance/images/%s", key).stdout.strip() or "no"
            if there != size:
                found.append(f"image {name} ({key}): its file has {there} bytes, its record says {size}")
        return found

    # An image that another test has just deleted is in the list, but its file is gone.
    wait_for("images are whole", lambda: not complaints(), 15, detail=lambda: "\n".join(complaints()))
