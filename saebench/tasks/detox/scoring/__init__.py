"""What is measured of an SAE: the continuations that the model writes, and what else an intervention changes."""
