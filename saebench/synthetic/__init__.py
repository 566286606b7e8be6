"""Synthetic models: sparse features with known directions, from which activations are made (arXiv 2602.14687)."""
