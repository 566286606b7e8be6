"""The task `language_steering`: which latents belong to a language, and what changing them does."""
