"""What decides how an object behaves: its tensors, its settings and its code, found by walking through it.

An SAE may be any Python object, or two functions that close over their weights. So the walk follows attributes, items,
closures, defaults and the globals that functions read, and gives every tensor, every plain value and every function a
path. Classes, modules of Python, and what belongs to Python, NumPy and PyTorch themselves are not entered.
"""

from __future__ import annotations

import dis
import functools
import hashlib
import sys
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

_PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.Size, np.generic)
_FOREIGN = frozenset({*sys.stdlib_module_names, "torch", "numpy", "saebench"})
# Attributes that every module has, hooks among them, and those that do not change what is computed: the device, and the
# fingerprint that `BaseAdapter` keeps.
_SKIPPED = frozenset({*vars(nn.Module()), "device", "_fingerprint"})
_DEEPEST = 12
_MOST = 50_000  # values; what lies beyond them is not looked at


@dataclass
class State:
    """The tensors, settings and code that the walk found.

    Attributes:
        tensors: The tensors by their paths.
        modules: The outermost torch modules.
        plain: Digests of settings and code by their paths.
    """

    tensors: dict[str, Tensor] = field(default_factory=dict)
    modules: list[nn.Module] = field(default_factory=list)
    plain: dict[str, str] = field(default_factory=dict)
    inside: set[int] = field(default_factory=set)  # the ids of these modules and all that are inside them

    @property
    def home(self) -> tuple[torch.device, torch.dtype] | None:
        """The device and type of the largest tensor of floats, which are those that the weights have."""
        floats = [tensor for tensor in self.tensors.values() if tensor.dtype in _FLOATS]
        largest = max(floats, key=lambda tensor: tensor.numel(), default=None)
        return None if largest is None else (largest.device, largest.dtype)

    def matrices(self, rows: int, columns: int) -> Iterator[Tensor]:
        """Yield every matrix of this shape in float32, and every one whose transpose has it."""
        for tensor in self.tensors.values():
            if tensor.dim() == 2 and tensor.dtype in _FLOATS and tensor.layout is torch.strided:
                for matrix in (tensor, tensor.T):
                    if tuple(matrix.shape) == (rows, columns):
                        yield matrix.detach().float()


_FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def state_of(**roots: object) -> State:
    """Walk through objects, which are named by the keywords."""
    state, seen = State(), dict[int, object]()
    for name, root in roots.items():
        _walk(root, name, state, seen, 0)
    return state


def digests(state: State) -> dict[str, str]:
    """Return a digest of every value by its path. It is the same on every device."""
    return {**state.plain, **{path: _of_tensor(tensor) for path, tensor in state.tensors.items()}}


def _walk(value: Any, path: str, state: State, seen: dict[int, object], depth: int) -> None:
    if isinstance(value, _PLAIN):
        state.plain[path] = f"{type(value).__name__} {value!r}"
        return
    if depth > _DEEPEST or id(value) in seen or len(seen) > _MOST or _is_foreign(value):
        return
    seen[id(value)] = value  # which also keeps it alive, so that no other object gets its id
    if isinstance(value, Tensor):
        state.tensors[path] = value
        return
    if isinstance(value, np.ndarray):
        state.plain[path] = _of_array(value)
        return
    if isinstance(value, nn.Module) and id(value) not in state.inside:
        state.modules.append(value)
        state.inside |= {id(module) for module in value.modules()}
    if isinstance(value, types.FunctionType):
        state.plain[f"{path}()"] = _of_code(value.__code__)
    for name, part in _parts(value):
        _walk(part, f"{path}{name}", state, seen, depth + 1)


def _is_foreign(value: object) -> bool:
    """Whether a value is a class or a module of Python, or code that belongs to Python, NumPy or PyTorch."""
    if isinstance(value, type | types.ModuleType | types.BuiltinFunctionType):
        return True
    return isinstance(value, types.FunctionType) and _package(value) in _FOREIGN


def _package(value: object) -> str:
    return str(getattr(value, "__module__", "")).partition(".")[0]


def _parts(value: Any) -> Iterator[tuple[str, object]]:
    """Yield what a value consists of."""
    if isinstance(value, Mapping):
        yield from ((f"[{key!r}]", item) for key, item in _listed(value.items()) if isinstance(key, str | int))
    elif isinstance(value, list | tuple):
        yield from ((f"[{number}]", item) for number, item in enumerate(value))
    elif isinstance(value, set | frozenset):
        yield "{}", ",".join(sorted(repr(item) for item in value if isinstance(item, _PLAIN)))
    elif isinstance(value, types.MethodType):
        yield from ((".self", value.__self__), (".function", value.__func__))
    elif isinstance(value, functools.partial):
        yield from ((".function", value.func), (".arguments", value.args), (".keywords", value.keywords))
    elif isinstance(value, types.FunctionType):
        yield from _parts_of_function(value)
    else:
        yield from _parts_of_object(value)


def _listed(items: Iterable[Any]) -> list[Any]:
    try:
        return list(items)
    except Exception:  # a mapping that somebody else wrote
        return []


def _parts_of_function(function: types.FunctionType) -> Iterator[tuple[str, object]]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield f".{name}", cell.cell_contents
        except ValueError:  # a variable that has no value yet
            continue
    yield ".defaults", function.__defaults__
    yield ".keyword_defaults", function.__kwdefaults__
    for name in sorted(_globals_of(function.__code__)):
        if name in function.__globals__:
            yield f".{name}", function.__globals__[name]
    if wrapped := vars(function).get("__wrapped__"):
        yield ".wrapped", wrapped


def _globals_of(code: types.CodeType) -> set[str]:
    """The names of the global variables that code reads, also inside functions that it defines."""
    names = {i.argval for i in dis.get_instructions(code) if i.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            names |= _globals_of(inner)
    return names


def _parts_of_object(value: Any) -> Iterator[tuple[str, object]]:
    if isinstance(value, nn.Module):
        for held in ("_parameters", "_buffers", "_modules"):
            yield from ((f".{name}", part) for name, part in vars(value)[held].items() if part is not None)
    attributes = getattr(value, "__dict__", {})
    slots = {name: getattr(value, name, None) for name in _slots(type(value))}
    for name, part in sorted({**attributes, **slots}.items()):
        if name not in _SKIPPED:
            yield f".{name}", part
    for kind in type(value).__mro__:
        if _package(kind) not in _FOREIGN:
            yield from (
                (f".{kind.__qualname__}.{name}", function)
                for name, member in sorted(vars(kind).items())
                for function in _functions(member)
            )


def _slots(kind: type) -> list[str]:
    slots: list[str] = []
    for base in kind.__mro__:
        if _package(base) not in _FOREIGN:
            named = vars(base).get("__slots__", ())
            slots += [named] if isinstance(named, str) else list(named)
    return [name for name in slots if name not in ("__dict__", "__weakref__")]


def _functions(member: object) -> Iterator[Callable[..., object]]:
    """Yield the functions of a member of a class: methods, properties and static methods."""
    if isinstance(member, types.FunctionType):
        yield member
    elif isinstance(member, staticmethod | classmethod):
        yield member.__func__
    elif isinstance(member, property) and member.fget is not None:
        yield member.fget
    elif isinstance(member, functools.cached_property):
        yield member.func


def _of_code(code: types.CodeType) -> str:
    """A digest of what a function does: not of its name, its line numbers, its comments or its docstring."""
    digest = hashlib.sha256(code.co_code)
    digest.update(repr((code.co_names, code.co_varnames, code.co_freevars, code.co_argcount)).encode())
    for number, constant in enumerate(code.co_consts):
        if isinstance(constant, types.CodeType):
            digest.update(_of_code(constant).encode())
        elif isinstance(constant, frozenset):
            digest.update(repr(sorted(map(repr, constant))).encode())
        elif number or not isinstance(constant, str | None) or code.co_name.startswith("<"):  # first is the docstring
            digest.update(repr(constant).encode())
    return digest.hexdigest()


def _of_tensor(tensor: Tensor) -> str:
    tensor = tensor.detach()
    if tensor.layout is not torch.strided:
        tensor = tensor.to_dense()
    if tensor.is_meta:
        return f"{tensor.dtype}|{tuple(tensor.shape)}"
    try:
        content = hashlib.sha256(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data).hexdigest()
    except (RuntimeError, TypeError):  # a quantised tensor, or a tensor of somebody else's class
        content = ""
    return f"{tensor.dtype}|{tuple(tensor.shape)}|{content}"


def _of_array(array: np.ndarray[Any, Any]) -> str:
    if array.dtype.hasobject:
        return f"{array.dtype}|{array.shape}"
    return f"{array.dtype}|{array.shape}|{hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()}"
