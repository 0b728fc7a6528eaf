"""Tests of each service's API operations."""
