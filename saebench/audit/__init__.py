"""Audits of metrics: whether a number says how good an SAE is, by truth, controls, cheats, noise and rounding."""
