"""The test guest: a small image that behaves like cirros, built from Debian packages only."""

from lab.guest.build import GuestError, build_test_guest, recipe_key

__all__ = ["GuestError", "build_test_guest", "recipe_key"]
