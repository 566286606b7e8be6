"""saebench: evaluate sparse autoencoders of language models.

``saebench.run(...)`` does from Python what ``saebench run`` does in a shell, and ``saebench.results.load(...)`` returns
the table of records that ``saebench table`` prints. Importing the package is cheap: torch, transformers and pandas are
imported only by the code that needs them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from saebench.version import __version__

if TYPE_CHECKING:
    from saebench import results
    from saebench.api import run

__all__ = ["__version__", "results", "run"]


def __getattr__(name: str) -> Any:
    if name == "run":
        from saebench.api import run

        return run
    if name == "results":
        # Not `from saebench import results`, which would ask this function again.
        import saebench.results as results

        return results
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
