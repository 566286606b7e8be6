"""Regression checks: whether an SAE is still as good as a baseline that a project keeps beside its tests."""
