"""Keys that must never be replaced: encrypted data would be lost."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from ..inventory import Node
from ..ledger import Ledger
from ..site import Site
from . import ini_text
from .base import Change, Context, ManagedFile, Query, file


@dataclass(frozen=True)
class KeptOption(ManagedFile):
    """An option whose value on a node must match the site's; otherwise the run is refused before it changes anything.

    :param path: the ini file, by the guide's name
    :param section: the section
    :param option: the option
    :param value: the site's value
    :param step: the step that writes it; before it is done, a package's default may be present
    """

    section: str
    option: str
    value: str = field(repr=False)
    step: str

    @property
    def title(self) -> str:
        return f"key {self.path} [{self.section}] {self.option}"

    def queries(self, site: Site, node: Node) -> Iterable[Query]:
        return [*super().queries(site, node), file(Ledger.ON_NODE)]

    def paths(self, site: Site) -> tuple[str, ...]:
        return ()

    def obstacles(self, context: Context) -> list[str]:
        path = context.site.release.path(self.path)
        found = ini_text.read(str(context.facts[file(path)]["content"])).get(self.section, {}).get(self.option)
        if found in (None, "", self.value):
            return []
        ledger = context.facts[file(Ledger.ON_NODE)]
        if ledger["exists"] and f'"step": "{self.step}"' not in ledger["content"]:
            return []
        return [
            f"{path}: [{self.section}] {self.option} is not the key of the site {context.site.name}, and the data "
            f"protected by it would be lost; copy the site's state folder {context.site.state} from the machine that "
            "deployed the node. To start from scratch, reinstall the node"
        ]

    def changes(self, context: Context) -> list[Change]:
        return []
