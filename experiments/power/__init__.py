"""Which test: simulated studies."""
