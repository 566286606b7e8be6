"""Linear probes, of which many are fitted at a time."""
