"""Images. Guide: glance, verification."""

from __future__ import annotations

import hashlib
import urllib.request
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from .. import inventory
from ..errors import ActionError
from ..image_format import wrong_format
from ..resources.base import Context, Difference
from ..site import Site, cache_directory
from ..store import Part
from .api_object import ApiObject, compare, not_ours
from .cloud import SharedCloud

SOURCE = "stackspec_source"
"""Property of an image with its source."""


@dataclass(frozen=True)
class Image(ApiObject):
    """An image of the inventory, uploaded once, and again if the name of its source changes.

    :param name: its name in glance
    :param image: its entry in the inventory
    :param tags: tags by which a service finds it
    :param project: the project that owns it
    """

    name: str
    image: inventory.Image = field(hash=False)
    tags: tuple[str, ...] = ()
    project: str = "admin"

    @property
    def title(self) -> str:
        return f"image {self.name}"

    def differences(self, cloud: SharedCloud, context: Context) -> list[Difference]:
        found = cloud.owned("image.images", self.name, self.project)
        wanted: dict[str, Any] = {"visibility": self.image.visibility, "status": "active"}
        differences = compare(found, wanted, self.title)
        missing = set(self.tags) - set(found.tags) if found is not None else set()
        if missing:
            differences.append(Difference(f"tags of {self.title}", ", ".join(sorted(missing)), "absent"))
        for name, value in self.image.properties.items() if found is not None else ():
            if (now := _property(found, name)) != value:
                differences.append(Difference(f"{name} of {self.title}", repr(value), repr(now)))
        source = _source(context.site, self.image)
        made_of = found.properties.get(SOURCE) if found is not None else None
        if source and made_of and made_of != source:
            differences.append(Difference(f"source of {self.title}", source, made_of))
        return differences

    def parts(self, site: Site) -> list[Part]:
        part = _part(site, self.name, self.image)
        return [part] if part is not None else []

    def obstacles(self, context: Context) -> list[str]:
        return self.lacking(context.site)

    def prepare(self, context: Context) -> None:
        image_file(context.site, self.name, self.image)

    def make(self, cloud: SharedCloud, context: Context) -> None:
        found = cloud.owned("image.images", self.name, self.project)
        source = _source(context.site, self.image)
        if found is not None and SOURCE not in found.properties:
            hand_over = f"openstack image set --property {SOURCE}='{source}' {found.id}"
            advice = "rename that image or the one in the inventory; or, to hand it over to the deployment: "
            raise not_ours(self.title, "image", found, self.project, advice + hand_over)
        attributes: dict[str, Any] = {"visibility": self.image.visibility, **self.image.properties}
        if found is not None and found.status == "active" and found.properties.get(SOURCE, source) == source:
            tags = sorted({*found.tags, *self.tags})
            cloud.connection.image.update_image(found, **attributes, tags=tags)
            return
        if found is not None:
            # From another source, or left queued by a killed upload.
            cloud.connection.image.delete_image(found)
        path = image_file(context.site, self.name, self.image)
        project = cloud.connection.identity.find_project(self.project, ignore_missing=False, domain_id="default")
        image = cloud.connection.image.create_image(
            self.name,
            filename=str(path),
            disk_format=self.image.disk_format,
            container_format="bare",
            owner=project.id,
            tags=list(self.tags),
            **attributes,
            **{SOURCE: source},
        )
        # create_image returns the state from before the upload.
        status = cloud.connection.image.get_image(image.id).status
        if status != "active":
            raise ActionError(f"upload {path.name} as image {self.name}", output=f"status {status}")


def _property(found: Any, name: str) -> Any:
    """A property of an image; some are attributes in the client."""
    return found.properties.get(name, getattr(found, name, None))


def _source(site: Site, image: inventory.Image) -> str:
    """The image's source: a file name or URL; empty while the builder of the image is not available."""
    source = image.source
    if source in site.image_builders:
        return site.image_builders[source].file_name
    return source if "://" in source else (site.folder / source).name if (site.folder / source).exists() else ""


def image_file(site: Site, name: str, image: inventory.Image) -> Path:
    """The local file of an image; a URL is downloaded to the cache once. A wrong checksum or format is refused.

    :raises ActionError: the download failed, or checksum or format differ from the inventory
    """
    part = _part(site, name, image)
    return site.store.take(part) if part is not None else _checked(site.folder / image.source, name, image)


def _part(site: Site, name: str, image: inventory.Image) -> Part | None:
    """An image to build or download; None if the inventory gives a file."""
    if image.source in site.image_builders:
        builder = site.image_builders[image.source]
        return Part(f"images/{builder.file_name}", f"image {name}", lambda: _checked(builder.build(), name, image))
    if "://" not in image.source:
        return None
    made_of = hashlib.sha256(f"{image.source}{image.checksum or ''}".encode()).hexdigest()[:12]
    file_name = f"{made_of}-{Path(urlsplit(image.source).path).name}"
    return Part(f"images/{file_name}", f"image {name}", lambda: _checked(_download(name, image), name, image))


def _checked(path: Path, name: str, image: inventory.Image) -> Path:
    if wrong := wrong_format(path, image.disk_format):
        raise ActionError(f"check image {name}", output=f"{wrong} (from {image.source})")
    return path


def _download(name: str, image: inventory.Image) -> Path:
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
                size = source.headers.get("Content-Length")
                while block := source.read(1 << 20):
                    target.write(block)
                if size is not None and target.tell() != int(size):
                    raise OSError(f"the download ended after {target.tell()} of {size} bytes")
        except (OSError, HTTPException) as error:
            raise ActionError(
                f"download image {name}",
                output=f"{image.source}: {error}",
                advice="use a local file as the image's source",
            ) from None
        part.replace(path)
    if image.checksum is not None:
        with path.open("rb") as stream:
            found = f"sha256:{hashlib.sha256(stream.read()).hexdigest()}"
        if found != image.checksum:
            path.unlink()
            raise ActionError(f"check image {name}", output=f"wanted {image.checksum}, got {found} from {image.source}")
    return path
