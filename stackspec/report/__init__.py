"""The record of a run, the page made from it, and what differs between two runs; readable without pytest."""
