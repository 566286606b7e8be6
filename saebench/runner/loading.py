"""The SAEs of jobs: loaded when they are needed, shared between jobs, and checked to be comparable."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from saebench.errors import NotApplicableError, SAELoadError
from saebench.passes.context import TaskContext
from saebench.runner.identity import derived_fingerprint, group_fingerprint
from saebench.runner.info import sae_info, sentence
from saebench.runner.plan import Job
from saebench.sae.base import LoadContext
from saebench.sae.group_ref import SAEGroupRef
from saebench.sae.hook import HookSite
from saebench.sae.protocol import SAE
from saebench.sae.reference import SAERef, load_sae


class LoadKey(NamedTuple):
    """What decides an SAE as it is loaded. The text is empty unless the SAE is fitted to one."""

    ref: SAERef
    text: str


def load_keys(job: Job) -> list[LoadKey]:
    """The SAEs that ``job`` needs, in the order of its members."""
    return [_key(job, ref) for ref in job.members]


class Loader:
    """The SAEs of one seed, loaded once each and kept as long as jobs need them."""

    def __init__(self, context: TaskContext, hook: str) -> None:
        """Begin with no SAE loaded. ``hook`` is the hook point of controls that name none."""
        self.context, self.hook = context, hook
        self._loaded: dict[LoadKey, SAE] = {}

    def keep(self, keys: Collection[LoadKey]) -> None:
        """Release all other SAEs."""
        self._loaded = {key: sae for key, sae in self._loaded.items() if key in keys}

    def saes(self, job: Job) -> tuple[SAE, ...]:
        """Return the SAEs of ``job``, loading them if needed.

        Raises whatever loading raises; for a group SAELoadError, which names the member.
        """
        return tuple(self._member(job, ref) for ref in job.members)

    def loaded(self, job: Job) -> tuple[SAE, ...]:
        """Return the SAEs of ``job`` if all of them are loaded, else nothing."""
        keys = load_keys(job)
        return tuple(self._loaded[key] for key in keys) if set(keys) <= self._loaded.keys() else ()

    def fingerprint(self, job: Job) -> str:
        """Return the fingerprint of the SAE or group, without making SAEs that are derived from the model.

        Raises the errors of `saes`.
        """
        text = job.task.calibration_text
        fingerprints = [
            derived_fingerprint(ref, self.context, text, self.hook) or fingerprint_of(self._member(job, ref))
            for ref in job.members
        ]
        return group_fingerprint(fingerprints) if isinstance(job.subject, SAEGroupRef) else fingerprints[0]

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
            calibration=(lambda site: self.context.calibration(key.text, site)) if key.ref.fitted else None,
            d_in=lm.d_at,
            seed=self.context.seed,
            device=lm.device,
        )
        try:
            sae = load_sae(key.ref, loading)
        except SystemExit as error:  # a module of the user that is a script and calls sys.exit
            raise SAELoadError(
                f"{key.ref}: its code ended the program (exit status {error.code}) while loading."
            ) from error
        sae_info(key.ref, (sae,), None, self.hook)  # raises here if the SAE cannot be described in a record
        return sae


def fingerprint_of(sae: SAE) -> str:
    """Return the SAE's own fingerprint. Raises SAELoadError when it gives none."""
    fingerprint = sae.fingerprint()
    if not isinstance(fingerprint, str) or not fingerprint:
        raise SAELoadError(f"{sae.name}: fingerprint() must give a text that identifies it, not {fingerprint!r}.")
    return fingerprint


def check_group(group: SAEGroupRef, saes: tuple[SAE, ...]) -> None:
    """Raise NotApplicableError unless all members have one hook and one width, and no two are the same SAE."""
    first_of: dict[str, SAERef] = {}
    for ref, sae in zip(group.members, saes, strict=True):
        if (sae.hook, sae.d_in) != (saes[0].hook, saes[0].d_in):
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
