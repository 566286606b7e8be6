"""Assets, texts, labelled data and parallel sentences, and how they are divided."""
