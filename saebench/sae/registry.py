"""Which schemes of references there are: those of saebench, and those of installed packages.

A package adds a scheme by an entry point in the group ``saebench.saes``. Its name is the scheme, its value
``module:object``, an instance of a subclass of `saebench.sae.scheme.Scheme`::

    [project.entry-points."saebench.saes"]
    mine = "my_package.saes:SCHEME"

The object is imported when a reference of its scheme is first used, so a package that is broken or slow to import
disturbs no other scheme. A name that is taken is refused.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any

from saebench.errors import SaebenchError, SAELoadError, UsageError, did_you_mean
from saebench.sae.adversary_scheme import AdversaryScheme
from saebench.sae.baseline_scheme import BaselineScheme
from saebench.sae.factory import PythonScheme
from saebench.sae.folder_schemes import folder_schemes
from saebench.sae.hook import HookSite
from saebench.sae.hub_scheme import HubScheme
from saebench.sae.map_scheme import map_schemes
from saebench.sae.object_scheme import ObjectScheme
from saebench.sae.panel.planted_scheme import PlantedPanelScheme
from saebench.sae.panel.scheme import PanelScheme
from saebench.sae.sae_lens_scheme import SAELensScheme
from saebench.sae.scheme import Scheme
from saebench.sae.several.schemes import several_schemes
from saebench.sae.zoo import ZooScheme

if TYPE_CHECKING:
    from saebench.sae.base import LoadContext
    from saebench.sae.protocol import SAE
    from saebench.sae.ref import Reference

GROUP = "saebench.saes"


def _this_installation() -> SchemeRegistry:
    return scheme_registry()


BUILT_IN: tuple[Scheme, ...] = (
    ZooScheme(),
    SAELensScheme(),
    BaselineScheme(),
    AdversaryScheme(),
    PythonScheme(),
    HubScheme(_this_installation),
    ObjectScheme(),
    PanelScheme(),
    PlantedPanelScheme(),
    *several_schemes(),
)


@dataclass(frozen=True)
class Entry:
    """One registered scheme. ``error`` says why it cannot be used; ``scheme`` is None then."""

    name: str
    origin: str  # "saebench", or the distribution that brought it
    scheme: Scheme | None
    error: str = ""


class SchemeRegistry:
    """The schemes by name. Those of other packages are imported when they are first asked for."""

    def __init__(self, built_in: Iterable[Scheme], points: Iterable[EntryPoint]) -> None:
        """Register schemes; of two with one name, the first is kept and the other is refused."""
        self._loaded = {scheme.name: Entry(scheme.name, "saebench", scheme) for scheme in built_in}
        self._points: dict[str, EntryPoint] = {}
        self._refused: list[Entry] = []
        for point in sorted(points, key=lambda point: (point.name, point.value)):
            holder = self._points.get(point.name)
            taken_by = "saebench" if point.name in self._loaded else holder and _origin(holder)
            if taken_by:
                error = f"the name {point.name!r} is taken by {taken_by}"
                self._refused.append(Entry(point.name, _origin(point), None, error))
            else:
                self._points[point.name] = point

    def names(self) -> list[str]:
        """The names of all schemes, the built-in ones first. Some of the others may prove broken when they are used."""
        return list(dict.fromkeys([*self._loaded, *self._points]))

    def file_formats(self) -> list[str]:
        """The names of saebench's own schemes whose references name files, which is one for each format."""
        own = (entry.scheme for entry in self._loaded.values() if entry.origin == "saebench")
        return [scheme.name for scheme in own if scheme is not None and scheme.reads_files]

    def get(self, name: str) -> Scheme:
        """Return the scheme ``name``. Raises UsageError when there is none, or when it is broken."""
        if name not in self.names():
            raise UsageError(f"There is no SAE scheme {name!r}.{did_you_mean(name, self.names())}")
        entry = self._entry(name)
        if entry.scheme is None:
            raise UsageError(f"The SAE scheme {name!r} of {entry.origin} is broken: {entry.error}.")
        return entry.scheme

    def entries(self) -> list[Entry]:
        """All schemes, including those that cannot be used. Imports every package that brought one."""
        return [self._entry(name) for name in self.names()] + self._refused

    def _entry(self, name: str) -> Entry:
        if name not in self._loaded:
            self._loaded[name] = _load(self._points[name])
        return self._loaded[name]


@functools.cache
def scheme_registry() -> SchemeRegistry:
    """The schemes of this installation, looked up once per process."""
    return SchemeRegistry((*BUILT_IN, *map_schemes(), *folder_schemes()), entry_points(group=GROUP))


def _origin(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else "an unknown package"


def _load(point: EntryPoint) -> Entry:
    origin = _origin(point)
    try:
        scheme = point.load()
        if not isinstance(scheme, Scheme):
            raise SaebenchError(f"{point.value} must be an instance of saebench.sae.scheme.Scheme, not {scheme!r}")
        if getattr(scheme, "name", None) != point.name:
            raise SaebenchError(f"{point.value} is called {getattr(scheme, 'name', None)!r}, not {point.name!r}")
    except SaebenchError as error:
        return Entry(point.name, origin, None, str(error))
    except (Exception, SystemExit) as error:  # foreign code may raise anything; the other schemes must stay usable
        return Entry(point.name, origin, None, _one_line(error))
    return Entry(point.name, origin, _ThirdParty(scheme, origin))


class _ThirdParty(Scheme):
    """The scheme of another package. Errors that it did not mean for the user, and wrong answers, name the package."""

    def __init__(self, scheme: Scheme, origin: str) -> None:
        self._scheme, self._origin = scheme, origin
        self.name, self.forms, self.wrappers = scheme.name, scheme.forms, scheme.wrappers
        self.runs_code, self.reads_files = scheme.runs_code, scheme.reads_files

    def validate(self, ref: Reference) -> None:
        self._ask("validate", object, ref)

    def load(self, ref: Reference, context: LoadContext) -> SAE:
        from saebench.sae.adapt import as_sae

        try:
            loaded = self._scheme.load(ref, context)
        except SaebenchError:
            raise
        except Exception as error:
            raise SAELoadError(f"{ref} failed with {_one_line(error)} (SAE scheme of {self._origin}).") from error
        return as_sae(loaded, str(ref), context)

    def site(self, ref: Reference, default: str | None) -> HookSite | None:
        site: HookSite | None = self._ask("site", HookSite | None, ref, default)
        return site

    def width(self, ref: Reference) -> int | None:
        width: int | None = self._ask("width", int | None, ref)
        return width

    def control(self, ref: Reference) -> str | None:
        kind: str | None = self._ask("control", str | None, ref)
        return kind

    def derived(self, ref: Reference) -> bool:
        return bool(self._ask("derived", bool, ref))

    def fitted(self, ref: Reference) -> bool:
        return bool(self._ask("fitted", bool, ref))

    def remote(self, ref: Reference) -> bool:
        return bool(self._ask("remote", bool, ref))

    def prefetch(self, ref: Reference) -> str:
        return str(self._ask("prefetch", str, ref))

    def hook_for_controls(self, ref: Reference) -> str | None:
        site: str | None = self._ask("hook_for_controls", str | None, ref)
        return site

    def _ask(self, method: str, expected: Any, ref: Reference, *arguments: object) -> Any:
        whose = f"{ref}: {method}() of the SAE scheme of {self._origin}"
        try:
            answer = getattr(self._scheme, method)(ref, *arguments)
        except SaebenchError:
            raise
        except (Exception, SystemExit) as error:
            raise UsageError(f"{whose} failed with {_one_line(error)}.") from error
        if not isinstance(answer, expected):
            kinds = getattr(expected, "__name__", str(expected))
            raise UsageError(f"{whose} returned {answer!r}, which is not of type {kinds}.")
        return answer


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
