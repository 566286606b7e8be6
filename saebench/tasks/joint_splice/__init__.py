"""What several SAEs of one language model cost it together."""
