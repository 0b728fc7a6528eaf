"""The clouds.yaml of the site. Guide: keystone, the admin and demo scripts."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ..inventory import Node
from ..resources.base import Change, Context, Query, Resource, file
from ..resources.files import File
from ..site import Site
from .cloud import auth_url


@dataclass(frozen=True)
class CloudsFile(Resource):
    """A clouds.yaml with the clouds `<site>` (admin) and `<site>-demo`, 0600, on the controller."""

    path: str

    @property
    def title(self) -> str:
        return self.path

    def queries(self, site: Site, node: Node) -> Iterable[Query]:
        return [file(self.path)]

    def changes(self, context: Context) -> list[Change]:
        return File(self.path, clouds_yaml(context.site), 0o600).changes(context)


def clouds_yaml(site: Site) -> str:
    """The text of clouds.yaml (JSON is YAML)."""

    def cloud(user: str) -> dict[str, Any]:
        auth = {
            "auth_url": auth_url(site),
            "username": user,
            "password": site.password(user),
            "project_name": user,
            "user_domain_name": "Default",
            "project_domain_name": "Default",
        }
        return {"auth": auth, "region_name": site.region, "identity_api_version": 3}

    clouds = {site.name: cloud("admin"), f"{site.name}-demo": cloud("demo")}
    return json.dumps({"clouds": clouds}, indent=2) + "\n"
