"""Files in repositories of the Hugging Face hub: which there are, and how they come into the hub's cache."""
