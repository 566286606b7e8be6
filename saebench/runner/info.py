"""How a record describes its SAE or group of SAEs, and an error."""

from __future__ import annotations

from saebench.errors import SaebenchError
from saebench.evaluation.task import TaskOutput
from saebench.results.record import GROUP, SAEInfo
from saebench.runner.plan import Subject
from saebench.sae.group_ref import SAEGroupRef
from saebench.sae.protocol import SAE
from saebench.sae.reference import SAERef


def label(subject: Subject) -> str:
    """The name of an SAE or group in tables and messages."""
    return f"{GROUP}{subject.name}" if isinstance(subject, SAEGroupRef) else str(subject)


def sae_info(subject: Subject, saes: tuple[SAE, ...], output: TaskOutput | None, hook: str) -> SAEInfo:
    """Return what a record says about ``subject``.

    A group has the architecture of its members if they share one, else "mixed", and the largest ``d_in`` and ``d_sae``.

    Args:
        subject: An SAE or a group.
        saes: The SAEs of ``subject``, or none if they could not be loaded.
        output: What the task measured, if it did; an SAE's L0 is taken from it.
        hook: The hook point of controls that name none.
    """
    if isinstance(subject, SAEGroupRef):
        return _group_info(subject, saes, hook)
    if not saes:
        known = _known_hook(subject, hook)
        control = subject.control is not None
        return SAEInfo(name=str(subject), architecture="", hook=known, d_in=0, d_sae=0, control=control)
    [sae] = saes
    return SAEInfo(
        name=sae.name,
        architecture=sae.architecture,
        hook=str(sae.hook),
        d_in=sae.d_in,
        d_sae=sae.d_sae,
        l0=next((m.value for m in output.measurements if m.metric == "l0"), None) if output else None,
        control=sae.control,
        notes={"model_name": sae.model_name} if sae.model_name else {},
    )


def sentence(error: Exception) -> str:
    """The error in one line: the text of saebench's own errors, the type and text of others."""
    text = " ".join(str(error).split())
    return text if isinstance(error, SaebenchError) else f"{type(error).__name__}: {text}"


def _group_info(group: SAEGroupRef, saes: tuple[SAE, ...], hook: str) -> SAEInfo:
    loaded: list[tuple[SAE, ...]] = [(sae,) for sae in saes] or [()] * len(group.members)
    infos = [sae_info(ref, sae, None, hook) for ref, sae in zip(group.members, loaded, strict=True)]
    architectures, hooks = ({getattr(info, key) for info in infos} for key in ("architecture", "hook"))
    return SAEInfo(
        name=label(group),
        architecture=architectures.pop() if len(architectures) == 1 else "mixed",
        hook=hooks.pop() if len(hooks) == 1 else "",
        d_in=max(info.d_in for info in infos),
        d_sae=max(info.d_sae for info in infos),
        control=all(info.control for info in infos),
        notes={"members": [str(ref) for ref in group.members]},
    )


def _known_hook(ref: SAERef, default: str) -> str:
    """The hook point of an SAE that could not be loaded, as far as its reference tells it; else empty."""
    if named := dict(ref.options).get("hook"):
        return named
    return default if ref.derived and ref.inner is None else ""
