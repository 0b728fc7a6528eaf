"""The tests of a cloud: its nodes (infra), each service's API (api), and what users do with it (e2e).

PYTEST_DONT_REWRITE: there are no assertions here, and pytest inside pytest would warn about a late import.
"""
