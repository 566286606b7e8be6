"""The scheme ``python:``, whose SAEs are built by functions of the user."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saebench.errors import SaebenchError, SAELoadError, UsageError
from saebench.sae.scheme import Form, Scheme
from saebench.sae.wording import one_line

if TYPE_CHECKING:
    from saebench.sae.base import LoadContext
    from saebench.sae.protocol import SAE
    from saebench.sae.ref import Reference


class PythonScheme(Scheme):
    """``python:pkg.module:factory`` or ``python:path/to/file.py:factory``; the factory receives the options."""

    name = "python"
    runs_code = True
    forms = (
        Form("pkg.module:factory", "a function of yours that returns an SAE; the options are its arguments"),
        Form("path/to/file.py:factory", "such a function in a file"),
    )

    def validate(self, ref: Reference) -> None:
        split_target(ref.body)

    def load(self, ref: Reference, context: LoadContext) -> SAE:
        return load_from_factory(ref.body, dict(ref.options), str(ref), context)


def split_target(body: str) -> tuple[str, str]:
    """Split ``pkg.module:factory`` or ``path/to/file.py:factory`` into module or file, and the factory's name.

    Raises UsageError for a body of another form, and for a file or package that does not exist.
    """
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
            f"python:{body}: there is no module {package!r}; install it, put its folder on PYTHONPATH, "
            "or give the path of the .py file."
        )
    return source, attribute


def load_from_factory(body: str, options: Mapping[str, str], name: str, context: LoadContext | None = None) -> SAE:
    """Call a factory and check what it returns.

    Args:
        body: The module or file and the function, as in `split_target`.
        options: Arguments of the function as text; numbers and true/false are converted.
        name: The reference, for error messages.
        context: What `saebench.sae.adapt.as_sae` needs for an object with no more than ``encode`` and ``decode``.

    Returns:
        What the function returned: an object with the members of ``saebench.sae.protocol.SAE``, or an adapter around a
        ``sae_lens.SAE`` or around another object with ``encode`` and ``decode``.

    Raises:
        SAELoadError: The factory is missing, fails, or returns anything else.
    """
    from saebench.sae.adapt import as_sae

    source, attribute = split_target(body)
    try:
        factory = getattr(_import(source), attribute)
        arguments = {key: convert(value) for key, value in options.items()}
        _check_arguments(factory, arguments, name)
        built = factory(**arguments)
    except SaebenchError:
        raise
    except Exception as error:  # the user's own code may raise anything
        raise SAELoadError(f"{name} failed with {one_line(error)}{_place(error)}.") from error
    return as_sae(built, name, context)


def convert(text: str) -> int | float | bool | str:
    """Return an option's text as an int, a float or a bool, or the text itself if it is none of these."""
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
    except (OSError, ValueError, RuntimeError):  # the name is too long, holds a zero byte, or names no user
        return False


def _import(source: str) -> Any:
    if not source.endswith(".py"):
        return importlib.import_module(source)
    path = Path(source).expanduser().resolve()
    spec = importlib.util.spec_from_file_location(f"_saebench_factory_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look up their module there
    spec.loader.exec_module(module)
    return module


def _place(error: BaseException) -> str:
    """Where an error arose, such as " (my_saes.py, line 12)", so that it can be found without a traceback."""
    frames = traceback.extract_tb(error.__traceback__)
    inside = [frame for frame in frames if Path(frame.filename) != Path(__file__)]
    return f" ({Path(inside[-1].filename).name}, line {inside[-1].lineno})" if inside else ""


def _check_arguments(factory: Callable[..., object], arguments: Mapping[str, object], name: str) -> None:
    try:
        inspect.signature(factory).bind(**arguments)
    except TypeError as error:
        raise SAELoadError(f"{name}: the options do not fit the factory's signature: {error}.") from error
