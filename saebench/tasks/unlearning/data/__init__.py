"""The documents and the questions that the task reads, each of a forget side and a retain side."""
