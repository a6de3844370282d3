"""A plan -> a stored run: many benchmarks in fresh processes, their journal, the pytest plugin."""
