"""The SAEs of jobs: loaded when asked for, shared by the jobs that need them, and checked to go together."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager

from saebench.errors import NotApplicableError, SAELoadError
from saebench.passes.context import TaskContext
from saebench.runner.groups import is_fitted
from saebench.runner.identity import fitted_fingerprint, group_fingerprint
from saebench.runner.info import sae_info, sentence
from saebench.runner.plan import Job
from saebench.sae.base import LoadContext
from saebench.sae.group_ref import SAEGroupRef
from saebench.sae.protocol import SAE, HookSite
from saebench.sae.reference import SAERef, load_sae

Key = tuple[SAERef, str]


class Loader:
    """The SAEs of one seed. ``text`` is what controls are fitted to; other SAEs are the same for every text."""

    def __init__(self, context: TaskContext, hook: str) -> None:
        self.context, self.hook = context, hook
        self._loaded: dict[Key, SAE] = {}

    def keys(self, job: Job, text: str) -> list[Key]:
        """What decides the SAEs of ``job``, each as loaded."""
        return [_key(ref, text) for ref in job.members]

    def keep(self, keys: Collection[Key]) -> None:
        """Let go of all other SAEs."""
        self._loaded = {key: sae for key, sae in self._loaded.items() if key in keys}

    def saes(self, job: Job, text: str) -> tuple[SAE, ...]:
        """The SAEs of ``job``. Raises whatever loading raises; for a group, SAELoadError that names the member."""
        return tuple(self._of(job, ref, text) for ref in job.members)

    def loaded(self, job: Job, text: str) -> tuple[SAE, ...]:
        """The SAEs of ``job`` if all of them are loaded, else nothing."""
        keys = self.keys(job, text)
        return tuple(self._loaded[key] for key in keys) if set(keys) <= self._loaded.keys() else ()

    def fingerprint(self, job: Job, text: str) -> str:
        """Of the SAE or group, without fitting what is fitted. Raises like `saes`."""
        prints = [
            fitted_fingerprint(ref, self.context, text, self.hook) or fingerprint_of(self._of(job, ref, text))
            for ref in job.members
        ]
        return group_fingerprint(prints) if isinstance(job.subject, SAEGroupRef) else prints[0]

    def _of(self, job: Job, ref: SAERef, text: str) -> SAE:
        key = _key(ref, text)
        if key not in self._loaded:
            with _naming(job, ref):
                self._loaded[key] = self._load(ref, text)
        return self._loaded[key]

    def _load(self, ref: SAERef, text: str) -> SAE:
        lm = self.context.lm
        loading = LoadContext(
            hook=HookSite.at(self.hook),
            calibration=lambda site: self.context.calibration(text, site),
            d_in=lm.d_at,
            seed=self.context.seed,
            device=lm.device,
        )
        try:
            sae = load_sae(ref, loading)
        except SystemExit as error:  # a user's module that is a script, with its own command line
            raise SAELoadError(
                f"{ref}: its code ended the program (exit status {error.code}) while loading."
            ) from error
        sae_info(ref, (sae,), None, self.hook)  # an SAE that cannot be described is refused here
        return sae


def fingerprint_of(sae: SAE) -> str:
    """Raises SAELoadError when the SAE gives none."""
    fingerprint = sae.fingerprint()
    if not isinstance(fingerprint, str) or not fingerprint:
        raise SAELoadError(f"{sae.name}: fingerprint() must give a text that identifies it, not {fingerprint!r}.")
    return fingerprint


def check_group(group: SAEGroupRef, saes: tuple[SAE, ...]) -> None:
    """Raise NotApplicableError unless the members read one site of one width and no two are the same SAE."""
    seen: dict[str, SAERef] = {}
    for ref, sae in zip(group.members, saes, strict=True):
        if (sae.hook, sae.d_in) != (saes[0].hook, saes[0].d_in):
            raise NotApplicableError(
                f"The SAEs of group {group.name} do not read the same activations: {group.members[0]} takes "
                f"{saes[0].d_in} dimensions at {saes[0].hook}, {ref} {sae.d_in} at {sae.hook}; group SAEs of one hook."
            )
        if (twin := seen.setdefault(fingerprint_of(sae), ref)) != ref:
            raise NotApplicableError(
                f"Group {group.name} holds one SAE twice: {twin} and {ref} have the same weights and settings; "
                "leave one of them out."
            )


def _key(ref: SAERef, text: str) -> Key:
    return ref, text if is_fitted(ref) else ""


@contextmanager
def _naming(job: Job, ref: SAERef) -> Iterator[None]:
    """For a group, errors say which of its members cannot be loaded."""
    try:
        yield
    except Exception as error:
        if isinstance(job.subject, SAERef):
            raise
        raise SAELoadError(
            f"{ref}, a member of group {job.subject.name}, cannot be loaded: {sentence(error)}"
        ) from error
