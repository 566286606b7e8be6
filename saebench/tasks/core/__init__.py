"""The ``core`` task: reconstruction, sparsity, and what splicing the reconstruction costs the language model."""

from saebench.tasks.core.task import CoreTask

__all__ = ["CoreTask"]
