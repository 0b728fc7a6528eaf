"""Faults of a deployed site, tried one by one: inject, test, undo."""
