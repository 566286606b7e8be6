"""Probes on latents and on activations, other classifiers on activations, and probes in the regimes."""
