"""The ``concept_suppression`` task: take one concept out of a language model by its latents, and see what else goes."""
