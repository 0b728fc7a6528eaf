"""User scenarios across several services."""
