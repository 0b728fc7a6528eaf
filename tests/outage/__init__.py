"""What becomes of a site when everything fails at once."""
