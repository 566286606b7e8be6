"""``python:`` references: an SAE built by a function of the user's own."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

from saebench.errors import SaebenchError, SAELoadError, UsageError
from saebench.sae.protocol import SAE

SAE_MEMBERS = tuple(name for name in (*SAE.__annotations__, *vars(SAE)) if not name.startswith("_"))


def split_target(body: str) -> tuple[str, str]:
    """``pkg.module:factory`` or ``path/to/file.py:factory`` as (module or file, factory). Raises UsageError."""
    source, colon, attribute = body.rpartition(":")
    if not colon or not source or not attribute.isidentifier():
        raise UsageError(f"python:{body} must read python:pkg.module:factory or python:path/to/file.py:factory.")
    if source.endswith(".py"):
        if not _is_file(source):
            raise UsageError(f"python:{body} names a file that does not exist: {source}.")
    elif not all(part.isidentifier() for part in source.split(".")):
        raise UsageError(f"python:{body}: {source!r} is neither a module name nor a path to a .py file.")
    elif (package := source.split(".")[0]) not in sys.modules and importlib.util.find_spec(package) is None:
        raise UsageError(
            f"python:{body}: no module {package!r}; install it, put its folder on PYTHONPATH, "
            "or give the path of the .py file."
        )
    return source, attribute


def load_from_factory(body: str, options: Mapping[str, str], name: str) -> SAE:
    """Call the factory with ``options`` (numbers and true/false converted) and check what it returns.

    It must return an object with the members of ``saebench.sae.protocol.SAE``, or a ``sae_lens.SAE``.
    Raises SAELoadError when the factory is missing, fails, or returns anything else.
    """
    source, attribute = split_target(body)
    try:
        factory = getattr(_import(source), attribute)
        arguments = {key: convert(value) for key, value in options.items()}
        _check_arguments(factory, arguments, name)
        built = factory(**arguments)
    except SaebenchError:
        raise
    except Exception as error:  # the user's own code may raise anything
        raise SAELoadError(f"{name} failed with {type(error).__name__}: {error}") from error
    return as_sae(built, name)


def as_sae(built: object, name: str) -> SAE:
    """``built`` itself if it fulfils the protocol, an adapter round it if it is a SAELens SAE, else SAELoadError."""
    if "sae_lens" in sys.modules:  # an instance of it cannot exist before its import
        from sae_lens import SAE as LensSAE

        if isinstance(built, LensSAE):
            from saebench.sae.sae_lens_adapter import SAELensAdapter

            return SAELensAdapter(built, name)
    missing = [member for member in SAE_MEMBERS if not hasattr(built, member)]
    if missing:
        raise SAELoadError(
            f"{name} gave a {type(built).__name__}, which lacks {', '.join(missing)} of saebench.sae.protocol.SAE; "
            "subclassing saebench.sae.base.BaseAdapter supplies most of them."
        )
    return cast(SAE, built)


def convert(text: str) -> int | float | bool | str:
    """An option's text as int, float, true/false, or itself."""
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _is_file(source: str) -> bool:
    try:
        return Path(source).expanduser().is_file()
    except (OSError, ValueError, RuntimeError):  # too long, a zero byte, no such user
        return False


def _import(source: str) -> Any:
    if not source.endswith(".py"):
        return importlib.import_module(source)
    path = Path(source).expanduser().resolve()
    spec = importlib.util.spec_from_file_location(f"_saebench_factory_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module


def _check_arguments(factory: Callable[..., object], arguments: Mapping[str, object], name: str) -> None:
    try:
        inspect.signature(factory).bind(**arguments)
    except TypeError as error:
        raise SAELoadError(f"{name}: the options do not fit the factory's signature: {error}.") from error
