"""The tests of a cloud: its nodes (infra), each service's API (api), and what users do with it (e2e).

PYTEST_DONT_REWRITE: no assertion is here, and a run of pytest inside of pytest would warn that it comes too late.
"""
