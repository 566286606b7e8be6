"""saebench: evaluate sparse autoencoders of language models.

``saebench.run(...)`` does from Python what ``saebench run`` does in a shell. Importing the package is cheap:
torch, transformers and pandas are imported by what needs them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from saebench.runner.api import run

__version__ = "0.1.0"
__all__ = ["__version__", "run"]


def __getattr__(name: str) -> Any:
    if name == "run":
        # By name, because rooms import this module for its version: an import statement would close a circle of rooms.
        return importlib.import_module("saebench.runner.api").run
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
