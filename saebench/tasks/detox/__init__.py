"""The ``detox`` task: what latents that fire on toxic text do to the toxicity of what the model writes."""
