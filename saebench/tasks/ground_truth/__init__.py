"""The ``ground_truth`` task: whether the latents of an SAE are the features that a synthetic model is made of."""
