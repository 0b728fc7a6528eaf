"""The guide's own wording, tried where the errata say that it fails."""
