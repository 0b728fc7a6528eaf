"""The inventories of the repository are valid, and the example has every key with its real default."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from stackspec.cloud_inventory import CloudInventory
from stackspec.inventory import LabSection, load_inventory

INVENTORIES = Path(__file__).parents[2] / "inventories"


@pytest.mark.parametrize("name", ["lab", "guide", "example"])
def test_shipped_inventories(name: str) -> None:
    """The inventories of the repository are valid."""
    assert load_inventory(INVENTORIES / name, CloudInventory).site == name


def test_guide_has_generated_secrets() -> None:
    """The guide's single password is only used on request."""
    assert load_inventory(INVENTORIES / "guide", CloudInventory).secrets == "generated"


def models(model: Any, seen: list[type[BaseModel]]) -> list[type[BaseModel]]:
    """`model` and all models in its fields."""
    for inner in get_args(model):
        models(inner, seen)
    if isinstance(model, type) and issubclass(model, BaseModel) and model not in seen:
        seen.append(model)
        for field in model.model_fields.values():
            models(field.annotation, seen)
    return seen


def test_example_has_every_key() -> None:
    """A key missing from the example would never be found; each is explained by a comment above it."""
    lines = (INVENTORIES / "example/site.yaml").read_text().splitlines()
    keys = {(model, name) for model in models(CloudInventory, []) for name in model.model_fields}
    # A node's name is its key; the lab's details are explained in its own inventory.
    keys = {(model, name) for model, name in keys if name != "name" and model is not LabSection}
    for model, name in keys:
        shown = [line for line in lines if re.search(rf"(^|[{{,])\s*(# )?{name}:", line)]
        assert shown, f"{model.__name__}.{name} is not in the example"


def test_example_shows_the_real_defaults() -> None:
    """A default in the example equals the model's."""
    text = (INVENTORIES / "example/site.yaml").read_text()
    named = re.findall(r"Default: (\S+?)\.\n(?:#.*\n)*(?! )(\w+):", text)
    assert len(named) >= 5
    for default, key in named:
        found = CloudInventory.model_fields[key].default
        shown = {True: "true", False: "false", (): "none"}.get(found, found) if not isinstance(found, dict) else default
        assert (shown or "none") == default, key
