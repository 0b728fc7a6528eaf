"""Tests of a deployed site on its nodes."""
