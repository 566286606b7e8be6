"""The ``concept_suppression`` task: suppress one concept in a language model by latents, and see what else goes."""
