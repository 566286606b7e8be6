"""The ``core`` task: reconstruction, sparsity, and what splicing the reconstruction costs the language model."""
