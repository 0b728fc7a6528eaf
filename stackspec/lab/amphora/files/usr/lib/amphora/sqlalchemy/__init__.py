"""Stands in for SQLAlchemy, of which the agent names one class only."""
