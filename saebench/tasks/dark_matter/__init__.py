"""The ``dark_matter`` task: how much of what an SAE leaves out is linear in the activation (2410.14670)."""
