"""Records in the schema of Every Eval Ever, version 0.3.0 (github.com/evaleval/every_eval_ever): one JSON per record.

The schema describes scores of models. Here the SAE is the model, and the language model, hook and width are its
details. The schema requires that a score says whether lower is better. Metrics that only describe an SAE (its L0, for
example) and metrics whose task card is not installed have no such direction; they are left out, and so are numbers that
are not scored. The schema writes an open bound as ``"Infinity"`` or ``"-Infinity"``.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from saebench.atomic import write_atomic
from saebench.cards.card import MetricSpec
from saebench.cards.registry import registry
from saebench.results.record import GROUP, Measurement, Record, Status
from saebench.results.slug import slug
from saebench.safe_text import json_text
from saebench.stats.intervals import CONFIDENCE

VERSION = "0.3.0"
COLLECTION = "saebench"


def to_log(record: Record, organization: str) -> dict[str, Any] | None:
    """Return ``record`` as an evaluation log; None when it has no number that the schema can hold.

    ``organization`` names who made the numbers. Equal records give equal logs, so that an export can be repeated.
    """
    results = []
    for number in record.measurements if record.status is Status.OK else ():
        spec = registry().metric(record.identity.task, record.identity.task_version, number.metric)
        if number.value is not None and spec is not None and spec.higher_is_better is not None:
            results.append(_result(record, number, spec))
    if not results:
        return None
    made = str(record.provenance.created.timestamp())
    return {
        "schema_version": VERSION,
        "evaluation_id": f"{COLLECTION}.{record.identity.task}/{_model_id(record)}/{record.record_id}",
        "evaluation_timestamp": made,
        "retrieved_timestamp": made,
        "source_metadata": {
            "source_name": "saebench",
            "source_type": "evaluation_run",
            "source_organization_name": organization,
            "evaluator_relationship": "other",
        },
        "eval_library": _library(record),
        "model_info": _model(record),
        "evaluation_results": results,
    }


def path_of(record: Record) -> PurePosixPath:
    """Return the path that the datastore expects, ``data/saebench/<kind>/<SAE>/<uuid>.json``.

    Equal records have equal paths.
    """
    digest = hashlib.sha256(record.record_id.encode()).digest()
    return PurePosixPath("data", COLLECTION, _model_id(record), f"{uuid.UUID(bytes=digest[:16], version=4)}.json")


def write(records: Iterable[Record], folder: Path, organization: str) -> tuple[int, int]:
    """Write a log per record below ``folder``. Return how many records were written and how many were left out."""
    written = left_out = 0
    for record in records:
        log = to_log(record, organization)
        if log is None:
            left_out += 1
            continue
        path = folder / path_of(record)
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json_text(json.dumps(log, indent=1, ensure_ascii=False, allow_nan=False)) + "\n"
        write_atomic(path, lambda file, text=text: file.write(text.encode()))  # type: ignore[misc]
        written += 1
    return written, left_out


def _model_id(record: Record) -> str:
    """Return the kind of reference and the rest as a portable name, such as ``zoo/topk-k32-s0``."""
    name = record.sae.name if record.sae.name.startswith(GROUP) else record.identity.sae
    kind, colon, rest = name.partition(":")
    return f"{slug(kind)}/{slug(rest)}" if colon else f"sae/{slug(name)}"


def _model(record: Record) -> dict[str, Any]:
    who, sae = record.identity, record.sae
    return {
        "name": sae.name,
        "id": _model_id(record),
        "additional_details": {
            "deployment_type": "self_deployed",
            "model_availability": "unknown",
            **_texts(
                {
                    "kind": "sparse autoencoders" if sae.name.startswith(GROUP) else "sparse autoencoder",
                    "reference": who.sae,
                    "fingerprint": who.sae_fingerprint,
                    "architecture": sae.architecture,
                    "d_in": sae.d_in,
                    "d_sae": sae.d_sae,
                    "l0": sae.l0,
                    "control": sae.control,
                    "language_model": who.model,
                    "language_model_fingerprint": who.model_fingerprint,
                    "hook": sae.hook,
                    "dtype": who.dtype,
                }
            ),
        },
    }


def _library(record: Record) -> dict[str, Any]:
    how = record.provenance
    details = {"git_commit": how.git_commit, "git_dirty": how.git_dirty, "python": how.python, **how.packages}
    return {"name": "saebench", "version": how.saebench_version, "additional_details": _texts(details)}


def _result(record: Record, number: Measurement, spec: MetricSpec) -> dict[str, Any]:
    who = record.identity
    name = f"{COLLECTION}.{who.task}"
    low, high = spec.bounds
    return {
        "evaluation_result_id": f"{record.record_id}/{number.metric}/{number.subset}",
        "evaluation_name": f"{name}.{number.subset}" if number.subset else name,
        "source_data": {
            "dataset_name": next(iter(who.data)) if len(who.data) == 1 else name,
            "source_type": "other",
            "additional_details": {reference: f"sha256:{content}" for reference, content in who.data.items()},
        },
        "metric_config": {
            "evaluation_description": spec.description,
            "metric_id": f"{name}.{number.metric}",
            "metric_name": spec.title,
            "metric_unit": spec.unit,
            "lower_is_better": not spec.higher_is_better,
            "score_type": "continuous",
            "min_score": "-Infinity" if low is None else low,
            "max_score": "Infinity" if high is None else high,
            "additional_details": _texts(
                {
                    "task_version": who.task_version,
                    "preset": record.preset,
                    "seed": who.seed,
                    "parameters": json.dumps(who.parameters, sort_keys=True),
                    "chance": spec.chance,
                }
            ),
        },
        "score_details": _score(number),
    }


def _score(number: Measurement) -> dict[str, Any]:
    uncertainty: dict[str, Any] = {}
    if number.stderr is not None:
        uncertainty["standard_error"] = {"value": number.stderr, "method": number.interval}
    if number.ci_low is not None and number.ci_high is not None:
        interval = {"lower": number.ci_low, "upper": number.ci_high, "confidence_level": CONFIDENCE}
        uncertainty["confidence_interval"] = {**interval, "method": number.interval}
    if number.n is not None:
        uncertainty["num_samples"] = number.n
    score: dict[str, Any] = {"score": number.value, "details": _texts({"sampling_unit": number.unit})}
    return score | ({"uncertainty": uncertainty} if uncertainty else {})


def _texts(values: Mapping[str, object]) -> dict[str, str]:
    """Return the values as text, which the schema requires of details. Unknown values are left out."""
    return {key: str(value) for key, value in values.items() if value not in (None, "")}
