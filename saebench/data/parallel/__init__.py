"""Parallel sentences: sentences in several languages, split into training, validation and test rows."""

from saebench.data.parallel.load import BUILTIN, Parallel, load_parallel

__all__ = ["BUILTIN", "Parallel", "load_parallel"]
