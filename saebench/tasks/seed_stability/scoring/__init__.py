"""What is measured of a group of SAEs: the geometry of their directions, and what groups of latents do."""
