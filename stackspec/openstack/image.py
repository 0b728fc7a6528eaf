"""Images. Guide: glance, verification."""

from __future__ import annotations

import hashlib
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from ..errors import ActionError
from ..resources.base import Context, Difference
from ..site import Site, cache_directory
from .api_object import ApiObject, compare
from .cloud import Cloud

SOURCE = "stackspec_source"
"""Property of an image that says what it was made of."""


@dataclass(frozen=True)
class Image(ApiObject):
    """An image of the inventory, uploaded once and again when its source has another name.

    :param name: its name, in glance and in the inventory
    """

    name: str

    @property
    def title(self) -> str:
        return f"image {self.name}"

    def differences(self, cloud: Cloud, context: Context) -> list[Difference]:
        wanted = context.site.inventory.images[self.name]
        found = cloud.find("image.images", name=self.name)
        differences = compare(found, {"visibility": wanted.visibility, "status": "active"}, self.title)
        source = self._source(context.site)
        made_of = found.properties.get(SOURCE) if found is not None else None
        if source and made_of and made_of != source:
            differences.append(Difference(f"source of {self.title}", source, made_of))
        return differences

    def _source(self, site: Site) -> str:
        """What the image is made of: a file name or URL; nothing while the builder of the image is not at hand."""
        source = site.inventory.images[self.name].source
        if source in site.image_builders:
            return site.image_builders[source]().name
        return source if "://" in source else (site.folder / source).name if (site.folder / source).exists() else ""

    def make(self, cloud: Cloud, context: Context) -> None:
        wanted = context.site.inventory.images[self.name]
        found = cloud.find("image.images", name=self.name)
        source = self._source(context.site)
        if found is not None and found.status == "active" and found.properties.get(SOURCE, source) == source:
            cloud.connection.image.update_image(found, visibility=wanted.visibility)
            return
        if found is not None:
            # Of another source; or an upload that was killed, which leaves a queued image.
            cloud.connection.image.delete_image(found)
        path = image_file(context.site, self.name)
        image = cloud.connection.image.create_image(
            self.name,
            filename=str(path),
            disk_format=wanted.disk_format,
            container_format="bare",
            visibility=wanted.visibility,
            **{SOURCE: source},
        )
        # What create_image returns was read before the data was there.
        status = cloud.connection.image.get_image(image.id).status
        if status != "active":
            raise ActionError(f"upload {path.name} as image {self.name}", output=f"status {status}")


def image_file(site: Site, name: str) -> Path:
    """The local file of an image of the inventory; a URL is downloaded to the cache once and checked.

    :raises ActionError: the download failed or is not what the inventory's checksum says
    """
    image = site.inventory.images[name]
    if image.source in site.image_builders:
        return site.image_builders[image.source]()
    if "://" not in image.source:
        return site.folder / image.source
    path = (
        cache_directory()
        / "images"
        / f"{hashlib.sha256(image.source.encode()).hexdigest()[:12]}-{Path(image.source).name}"
    )
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        try:
            with urllib.request.urlopen(image.source, timeout=60) as source, part.open("wb") as target:
                while block := source.read(1 << 20):
                    target.write(block)
        except OSError as error:
            raise ActionError(
                f"download image {name}",
                output=f"{image.source}: {error}",
                advice="name a local file in images.*.source",
            ) from None
        part.replace(path)
    if image.checksum is not None:
        with path.open("rb") as stream:
            found = f"sha256:{hashlib.sha256(stream.read()).hexdigest()}"
        if found != image.checksum:
            path.unlink()
            raise ActionError(f"check image {name}", output=f"wanted {image.checksum}, got {found} from {image.source}")
    return path
