"""What is measured of an SAE's error: how well it is predicted, what that is worth, and whether two SAEs share it."""
