"""The SAEs of jobs: loaded when they are needed, shared between jobs, and checked to be comparable."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from saebench.errors import NotApplicableError, SAELoadError, shown
from saebench.files import is_text
from saebench.lm.facts import Facts
from saebench.lm.synthetic import SyntheticLM
from saebench.passes.context import TaskContext
from saebench.runner.identity import derived_fingerprint, group_fingerprint
from saebench.runner.info import check_description, sae_info, sentence
from saebench.runner.plan import Job
from saebench.sae.base import LoadContext
from saebench.sae.group_ref import SAEGroupRef
from saebench.sae.hook import HookSite
from saebench.sae.protocol import SAE
from saebench.sae.reference import SAERef, load_sae
from saebench.sae.trained_on import differences, trained_on
from saebench.sae.units import in_units

_LONGEST = 1000  # characters of a fingerprint


class LoadKey(NamedTuple):
    """What decides an SAE as it is loaded. The text is empty unless the SAE is fitted to one."""

    ref: SAERef
    text: str


def load_keys(job: Job) -> list[LoadKey]:
    """The SAEs that ``job`` needs, in the order of its members."""
    return [_key(job, ref) for ref in job.members]


class Loader:
    """The SAEs of one seed, loaded once each and kept as long as jobs need them."""

    def __init__(self, context: TaskContext, hook: str, *, hook_named: bool = False) -> None:
        """Begin with no SAE loaded.

        Args:
            context: The language model and the seed.
            hook: The hook point of controls that name none.
            hook_named: Whether the user chose ``hook``, so that all other SAEs that name none take it, too.
        """
        self.context, self.hook, self._hook_named = context, hook, hook_named
        self._facts = Facts(context.lm)
        self._loaded: dict[LoadKey, SAE] = {}
        self._in_units: dict[LoadKey, SAE] = {}

    def keep(self, keys: Collection[LoadKey]) -> None:
        """Release all other SAEs."""
        self._loaded = {key: sae for key, sae in self._loaded.items() if key in keys}
        self._in_units = {key: sae for key, sae in self._in_units.items() if key in keys}

    def saes(self, job: Job) -> tuple[SAE, ...]:
        """Return the SAEs of ``job``, loading them if needed.

        Raises whatever loading raises; for a group SAELoadError, which names the member.
        """
        return tuple(self._member(job, ref) for ref in job.members)

    def in_units(self, job: Job) -> tuple[SAE, ...]:
        """Return the SAEs of ``job`` as tasks see them (`saebench.sae.units`); norms are computed once for each SAE."""
        for key, sae in zip(load_keys(job), self.saes(job), strict=True):
            if key not in self._in_units:
                self._in_units[key] = in_units(sae)
        return tuple(self._in_units[key] for key in load_keys(job))

    def loaded(self, job: Job) -> tuple[SAE, ...]:
        """Return the SAEs of ``job`` if all of them are loaded, else nothing."""
        keys = load_keys(job)
        return tuple(self._loaded[key] for key in keys) if set(keys) <= self._loaded.keys() else ()

    def differences(self, job: Job) -> tuple[str, ...]:
        """Return a sentence for each way in which ``job`` uses its loaded SAEs otherwise than their training did."""
        length = getattr(job.task.settings, "context_length", None)
        sentences: dict[str, None] = {}
        for ref, sae in zip(job.members, self.loaded(job), strict=False):
            sites = sae.hook.sites_in + sae.hook.sites_out
            sentences |= dict.fromkeys(differences(trained_on(sae), str(ref), sites, self._facts, length))
        return tuple(sentences)

    def fingerprint(self, job: Job) -> str:
        """Return the fingerprint of the SAE or group, without making SAEs that are derived from the model.

        Raises the errors of `saes`.
        """
        fingerprints = self.fingerprints(job)
        return group_fingerprint(fingerprints) if isinstance(job.subject, SAEGroupRef) else fingerprints[0]

    def fingerprints(self, job: Job) -> tuple[str, ...]:
        """Return the fingerprint of each SAE of ``job``, as `fingerprint` does."""
        text = job.task.calibration_text
        return tuple(
            derived_fingerprint(ref, self.context, text, self.hook) or fingerprint_of(self._member(job, ref))
            for ref in job.members
        )

    def _member(self, job: Job, ref: SAERef) -> SAE:
        key = _key(job, ref)
        if key not in self._loaded:
            with _naming_member(job, ref):
                self._loaded[key] = self._load(key)
        return self._loaded[key]

    def _load(self, key: LoadKey) -> SAE:
        lm = self.context.lm
        loading = LoadContext(
            hook=HookSite.at(self.hook),
            hook_named=self._hook_named,
            calibration=(lambda site: self.context.calibration(key.text, site)) if key.ref.fitted else None,
            d_in=lm.d_at,
            seed=self.context.seed,
            device=lm.device,
            model=self._facts,
            synthetic=lm.synthetic if isinstance(lm, SyntheticLM) else None,
        )
        with not_ending(str(key.ref)):
            sae = load_sae(key.ref, loading)
        check_description(sae_info(key.ref, (sae,), None, self.hook))  # before the SAE is measured
        return sae


@contextmanager
def not_ending(whose: str) -> Iterator[None]:
    """Raise SAELoadError where somebody's code would end the program, as a module that is a script does.

    Args:
        whose: The SAE or task whose code runs in the block, for the message.
    """
    try:
        yield
    except (Exception, KeyboardInterrupt):
        raise
    except BaseException as error:
        status = f" (exit status {error.code})" if isinstance(error, SystemExit) else f" ({type(error).__name__})"
        raise SAELoadError(f"{whose}: its code ended the program{status}.") from error


def fingerprint_of(sae: SAE) -> str:
    """Return the SAE's own fingerprint. Raises SAELoadError when it gives none."""
    fingerprint = sae.fingerprint()
    if not isinstance(fingerprint, str) or not 0 < len(fingerprint) <= _LONGEST or not is_text(fingerprint):
        raise SAELoadError(f"{sae.name}: fingerprint() must give a text that identifies it, not {shown(fingerprint)}.")
    return fingerprint


def check_group(group: SAEGroupRef, saes: tuple[SAE, ...], *, one_hook: bool = True) -> None:
    """Raise NotApplicableError if two members are the same SAE, or if not all have one hook and one width.

    Args:
        group: The group.
        saes: Its members.
        one_hook: Whether the task compares SAEs of one hook.
    """
    first_of: dict[str, SAERef] = {}
    for ref, sae in zip(group.members, saes, strict=True):
        if one_hook and (sae.hook, sae.d_in) != (saes[0].hook, saes[0].d_in):
            raise NotApplicableError(
                f"The SAEs of group {group.name} do not read the same activations: {group.members[0]} takes "
                f"{saes[0].d_in} dimensions at {saes[0].hook}, {ref} {sae.d_in} at {sae.hook}; group SAEs of one hook."
            )
        if (twin := first_of.setdefault(fingerprint_of(sae), ref)) != ref:
            raise NotApplicableError(
                f"Group {group.name} holds one SAE twice: {twin} and {ref} have the same weights and settings; "
                "leave one of them out."
            )


def _key(job: Job, ref: SAERef) -> LoadKey:
    return LoadKey(ref, job.task.calibration_text if ref.fitted else "")


@contextmanager
def _naming_member(job: Job, ref: SAERef) -> Iterator[None]:
    """For a group, turn errors into SAELoadError that names the member which cannot be loaded."""
    try:
        yield
    except Exception as error:
        if isinstance(job.subject, SAERef):
            raise
        raise SAELoadError(
            f"{ref}, a member of group {job.subject.name}, cannot be loaded: {sentence(error)}"
        ) from error
