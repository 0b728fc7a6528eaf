"""Disk images that the lab builds itself from Debian packages: what their recipes have in common."""

from lab.image.build import ImageError, Recipe

__all__ = ["ImageError", "Recipe"]
