"""What is measured of an SAE: its pooled latents, their divergences between concepts, and averages of these."""
