"""saebench: evaluate sparse autoencoders of language models.

``saebench.run(...)`` does from Python what ``saebench run`` does in a shell, also on SAEs that are objects, and
``saebench.wrap(...)`` makes such an object of two functions. ``saebench.results.load(...)`` returns the table of
records that ``saebench table`` prints. Importing the package is cheap: torch, transformers and pandas are imported only
by the code that needs them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from saebench.version import __version__

if TYPE_CHECKING:
    from saebench import results
    from saebench.api import run
    from saebench.sae.object_adapter import wrap

__all__ = ["__version__", "results", "run", "wrap"]


def __getattr__(name: str) -> Any:
    if name == "run":
        from saebench.api import run

        return run
    if name == "wrap":
        from saebench.sae.object_adapter import wrap

        return wrap
    if name == "results":
        # Not `from saebench import results`, which would ask this function again.
        import saebench.results as results

        return results
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
