"""Identities of jobs, known before the work where that is possible."""

from __future__ import annotations

import hashlib

from saebench.data.split import CALIBRATION_CONTEXT, CALIBRATION_SEQUENCES
from saebench.lm.model import LanguageModel
from saebench.passes.context import TaskContext
from saebench.results.record import Identity
from saebench.runner.plan import Job
from saebench.sae.reference import SAERef


def dtype_name(lm: LanguageModel) -> str:
    return str(lm.dtype).removeprefix("torch.")


def job_identity(job: Job, context: TaskContext, sae_fingerprint: str, data: dict[str, str]) -> Identity:
    """Everything that decides the numbers of ``job``; ``data`` is that of its task (`Task.data`)."""
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


def group_fingerprint(members: list[str]) -> str:
    """Of a group, from the fingerprints of its members in order."""
    return hashlib.sha256("|".join(members).encode()).hexdigest()


def fitted_fingerprint(ref: SAERef, context: TaskContext, text: str, hook: str) -> str | None:
    """Fingerprint of a control that is fitted on activations, from what decides the fit, without fitting it.

    None for SAEs whose weights exist already: those are fingerprinted themselves.
    """
    if ref.scheme != "baseline":
        return None
    inner = ref.inner
    if inner is not None and inner.scheme != "baseline":
        return None
    parts = [
        str(ref),
        hook,
        context.lm.fingerprint,
        dtype_name(context.lm),
        context.lm.device.type,
        text,
        context.text(text).content_hash,
        str(context.seed),
        f"{CALIBRATION_SEQUENCES}x{CALIBRATION_CONTEXT}",
    ]
    return hashlib.sha256("|".join(parts).encode()).hexdigest()
