"""The labelled datasets, what probes read of their examples, and the draws of the regimes."""
