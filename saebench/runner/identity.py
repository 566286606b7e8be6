"""The identities of jobs, which are known before the work wherever this is possible."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from saebench.data.split import CALIBRATION_CONTEXT, CALIBRATION_SEQUENCES
from saebench.errors import SaebenchError, shown
from saebench.files import is_text
from saebench.lm.model import LanguageModel
from saebench.lm.synthetic import SyntheticLM
from saebench.passes.context import TaskContext
from saebench.results.record import Identity
from saebench.runner.plan import Job
from saebench.sae.reference import SAERef


def dtype_name(lm: LanguageModel) -> str:
    """The type of the model's weights, such as "float32"."""
    return str(lm.dtype).removeprefix("torch.")


def job_identity(job: Job, context: TaskContext, sae_fingerprint: str, data: dict[str, str]) -> Identity:
    """Return the identity of ``job``: everything that decides its numbers.

    Args:
        job: The job.
        context: The language model and the seed.
        sae_fingerprint: The fingerprint of the SAE or group.
        data: The content hashes of what the task reads (`Task.data`).
    """
    lm = context.lm
    return Identity(
        task=job.task.name,
        task_version=job.task.version,
        parameters=job.task.parameters,
        seed=job.seed,
        model=lm.name,
        model_fingerprint=lm.fingerprint,
        dtype=dtype_name(lm),
        device_class=lm.device.type,
        sae=str(job.subject),
        sae_fingerprint=sae_fingerprint,
        data=data,
    )


def checked_data(data: object, task: str) -> dict[str, str]:
    """Return what ``Task.data`` gave. Raises SaebenchError unless a record can hold it."""
    if isinstance(data, dict):
        texts = [text for pair in data.items() for text in pair]
        if all(isinstance(text, str) and is_text(text) for text in texts):
            return data
    raise SaebenchError(f"Task {task!r}: data() must give texts by their references, not {shown(data)}.")


def group_fingerprint(members: Iterable[str]) -> str:
    """The fingerprint of a group, from those of its members, whatever their order."""
    return hashlib.sha256("|".join(sorted(members)).encode()).hexdigest()


def derived_fingerprint(ref: SAERef, context: TaskContext, text: str, hook: str) -> str | None:
    """Return the fingerprint of an SAE that is derived from the language model, without making it.

    It covers everything that decides such an SAE, and neither the path of the text nor the hook point of other SAEs. It
    is None for SAEs whose weights exist already, which have fingerprints of their own.

    Args:
        ref: The SAE.
        context: The language model and the seed.
        text: The text that controls are fitted to.
        hook: The hook point of controls that name none.
    """
    if not ref.derived:
        return None
    parts = [
        str(ref),
        str(ref.site(hook)),
        context.lm.fingerprint,
        dtype_name(context.lm),
        context.lm.device.type,
        str(context.seed),
    ]
    if ref.fitted and not isinstance(context.lm, SyntheticLM):  # nothing else depends on the text
        parts += [context.text(text).content_hash, f"{CALIBRATION_SEQUENCES}x{CALIBRATION_CONTEXT}"]
    return hashlib.sha256("|".join(parts).encode()).hexdigest()
