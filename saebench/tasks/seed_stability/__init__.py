"""The task `seed_stability`: which latents come back with another seed."""
