"""How a record describes its SAE or group of SAEs, and an error."""

from __future__ import annotations

from typing import Any

from saebench.budget import memory_sentence, out_of_memory
from saebench.errors import SaebenchError, SAELoadError
from saebench.evaluation.task import TaskOutput
from saebench.files import is_text, storable_text
from saebench.results.record import GROUP, SAEInfo
from saebench.runner.plan import Subject
from saebench.sae.base import BaseAdapter
from saebench.sae.group_ref import SAEGroupRef
from saebench.sae.protocol import SAE
from saebench.sae.reference import SAERef
from saebench.sae.trained_on import trained_on

_LONGEST = 2000  # characters of an error in a record


def label(subject: Subject) -> str:
    """The name of an SAE or group in tables and messages."""
    return f"{GROUP}{subject.name}" if isinstance(subject, SAEGroupRef) else str(subject)


def sae_info(
    subject: Subject,
    saes: tuple[SAE, ...],
    output: TaskOutput | None,
    hook: str,
    differences: tuple[str, ...] = (),
) -> SAEInfo:
    """Return what a record says about ``subject``.

    A group has the architecture of its members if they share one, else "mixed", and the largest ``d_in`` and ``d_sae``.

    Args:
        subject: An SAE or a group.
        saes: The SAEs of ``subject``, or none if they could not be loaded.
        output: What the task measured, if it did; an SAE's L0 is taken from it.
        hook: The hook point of controls that name none.
        differences: How the run uses the SAEs otherwise than their training did.
    """
    said = {"differences": list(differences)} if differences else {}
    if isinstance(subject, SAEGroupRef):
        return _group_info(subject, saes, hook, said)
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
        notes=_notes(sae) | said,
    )


def check_description(info: SAEInfo) -> None:
    """Raise SAELoadError for a description with a text that no file can hold."""
    texts = {"name": info.name, "architecture": info.architecture, "hook": info.hook, **info.notes}
    for field, text in texts.items():
        if not is_text(str(text)):
            raise SAELoadError(f"The SAE's {field} {text!a} holds half a surrogate pair, which no record can hold.")


def sentence(error: BaseException) -> str:
    """Return the error in one line that a record can hold: for errors that are not saebench's with their type.

    If memory has run out, the line says what to lower, instead of what the allocator says.
    """
    if out_of_memory(error) and not isinstance(error, SaebenchError):
        return memory_sentence(error)
    try:
        text = storable_text(" ".join(str(error).split()))
    except Exception:  # the error of somebody else's code, whose text cannot be made
        text = "(its text cannot be shown)"
    if len(text) > _LONGEST:
        text = f"{text[: _LONGEST // 2]} ... {text[-_LONGEST // 2 :]}"
    if not isinstance(error, SaebenchError):
        return f"{type(error).__name__}: {text}"
    cause = error.__cause__
    if cause is not None and out_of_memory(cause) and "Out of memory" not in text:
        text = f"{text} {memory_sentence(cause)}"
    return text


def _notes(sae: SAE) -> dict[str, Any]:
    return dict(sae.notes()) if isinstance(sae, BaseAdapter) else trained_on(sae).notes()


def _group_info(group: SAEGroupRef, saes: tuple[SAE, ...], hook: str, said: dict[str, Any]) -> SAEInfo:
    loaded: list[tuple[SAE, ...]] = [(sae,) for sae in saes] or [()] * len(group.members)
    infos = [sae_info(ref, sae, None, hook) for ref, sae in zip(group.members, loaded, strict=True)]
    architectures = {info.architecture for info in infos}
    hooks = dict.fromkeys(info.hook for info in infos)
    return SAEInfo(
        name=label(group),
        architecture=architectures.pop() if len(architectures) == 1 else "mixed",
        hook="+".join(hooks) if all(hooks) else "",
        d_in=max(info.d_in for info in infos),
        d_sae=max(info.d_sae for info in infos),
        control=all(info.control for info in infos),
        notes={"members": [str(ref) for ref in group.members]} | said,
    )


def _known_hook(ref: SAERef, default: str) -> str:
    """The hook point of an SAE that could not be loaded, as far as its reference tells it; else empty."""
    if named := dict(ref.options).get("hook"):
        return named
    return default if ref.derived and ref.inner is None else ""
