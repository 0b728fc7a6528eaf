"""Recovery of a site after a total outage."""
