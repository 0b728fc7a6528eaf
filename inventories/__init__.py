"""Inventories that come with stackspec."""
