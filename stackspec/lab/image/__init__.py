"""Disk images that the lab builds from Debian packages: the common part of their recipes."""

from .build import ImageError, Recipe

__all__ = ["ImageError", "Recipe"]
