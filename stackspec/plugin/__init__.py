"""The pytest plugin: connects tests, engine, cloud and report."""
