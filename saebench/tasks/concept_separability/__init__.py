"""The ``concept_separability`` task: how far the distributions of single latents differ between concepts."""
