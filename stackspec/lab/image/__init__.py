"""Disk images that the lab builds itself from Debian packages: what their recipes have in common."""

from .build import ImageError, Recipe

__all__ = ["ImageError", "Recipe"]
