"""The ``seed_stability`` task: which latents of an SAE are found again when it is trained with another seed."""
