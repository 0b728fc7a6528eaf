"""The tests of a cloud: its nodes (infra), each service's API (api), and what users do with it (e2e)."""
