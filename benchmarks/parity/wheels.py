"""Libraries as wheels: fetched without what they depend on, unpacked, and imported without being installed.

Only the modules with the forward pass are imported. What these import, but no forward pass of an SAE needs (training,
plots, databases, language models), is replaced by modules that do nothing.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import subprocess
import sys
import types
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saebench.errors import SaebenchError

FOLDER = Path(__file__).resolve().parents[2] / "build" / "parity"


class MissingLibraryError(SaebenchError):
    """A library is not here and cannot be fetched."""


@dataclass(frozen=True)
class Library:
    """A package of the index.

    Attributes:
        package: Its name.
        version: The version whose forward pass counts.
        bare: The packages of it whose ``__init__`` is not run, because it imports more than the forward pass needs.
        stubs: The modules that are replaced by ones that do nothing. A name stands for everything below it, too.
    """

    package: str
    version: str
    bare: tuple[str, ...] = ()
    stubs: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.package} {self.version}"


def make_importable(library: Library, folder: Path = FOLDER, *, download: bool = True) -> None:
    """Fetch and unpack a library, if that was not done before, and let its modules be imported.

    Raises:
        MissingLibraryError: It is not in ``folder``, and cannot be fetched or must not be.
    """
    unpacked = folder / f"{library.package}-{library.version}"
    if not unpacked.is_dir():
        with zipfile.ZipFile(_wheel(library, folder, download=download)) as archive:
            archive.extractall(unpacked)
    if library.stubs:
        sys.meta_path.append(_Stubs(library.stubs))
    if not library.bare:
        sys.path.append(str(unpacked))
    for name in library.bare:
        module = types.ModuleType(name)
        module.__path__ = [str(unpacked / name.replace(".", "/"))]
        sys.modules[name] = module


def _wheel(library: Library, folder: Path, *, download: bool) -> Path:
    pattern = f"{library.package.replace('-', '_')}-{library.version}-*.whl"
    if download and not list(folder.glob(pattern)):
        requirement = f"{library.package}=={library.version}"
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        # What pip says goes to the terminal; whether the wheel is there is what counts.
        subprocess.run([*command, "--dest", str(folder), requirement], check=False, timeout=600)
    wheels = sorted(folder.glob(pattern))
    if not wheels:
        raise MissingLibraryError(f"{library} is not in {folder} and was not fetched, so nothing is compared with it")
    return wheels[0]


class _Stubs(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds modules that do nothing in place of missing ones, and of some modules of a library."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = tuple(names)

    def find_spec(
        self, fullname: str, path: Any = None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if any(fullname == name or fullname.startswith(f"{name}.") for name in self._names):
            return importlib.machinery.ModuleSpec(fullname, self, is_package=True)
        return None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return _Stub(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        pass


class _Stub(types.ModuleType):
    """A module in which every name is a class that takes anything.

    A decorator that is called with arguments, such as ``@jit(fast=True)``, leaves a function as it is.
    """

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(
            name,
            (),
            {
                "__init__": lambda self, *args, **options: None,
                "__call__": lambda self, function=None, *args, **options: function,
            },
        )
