"""The operations of each service's API."""
