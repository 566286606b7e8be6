"""Unlearning: change latents so that a model predicts one kind of text worse, and no other."""
