"""The ``sparse_probing`` task: what few latents tell of a concept, beside a linear probe on the whole activation."""
