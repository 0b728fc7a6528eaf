"""Replaces SQLAlchemy, of which the agent only references one class."""
