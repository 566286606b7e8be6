"""A board as JSON values, from which its pages, tables and files are made. Equal records give equal values."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from saebench.cards.audits import grade_facts
from saebench.cards.registry import registry
from saebench.leaderboard.board import Board
from saebench.leaderboard.gather import Gathered, LeftOut, Subject
from saebench.leaderboard.stratum import strata
from saebench.results.collection import Collection
from saebench.results.command import command
from saebench.results.record import Record
from saebench.version import __version__

SCHEMA_VERSION = 1
Json = dict[str, Any]
# Bins of log10 of a latent's density. They are the same for all SAEs, so that histograms can be compared.
_DENSITY_EDGES = np.linspace(-6.0, 0.0, 31)


def build(board: Board, results: Collection) -> Json:
    """Return the values of ``board`` from the records of ``results``.

    Raises:
        UsageError: The board names something that no card or no record has.
    """
    board.check()
    gathered = Gathered(board, results)
    counted = gathered.counted()
    return {
        "schema_version": SCHEMA_VERSION,
        "name": board.name,
        "title": board.title,
        "description": board.description,
        "data_hash": _hash(board, counted),
        "saebench_version": __version__,
        "records": len(counted),
        "strata": strata(board, gathered),
        "saes": _saes(gathered),
        "tasks": {task: _task(task) for task in sorted({record.identity.task for record in counted})},
        "left_out": [_left_out(entry) for entry in gathered.left_out],
    }


def _hash(board: Board, records: Sequence[Record]) -> str:
    """Return a hash of the definition and of the ids and numbers of the records that count."""
    numbers = {
        record.record_id: [record.status, record.error, *(m.model_dump(mode="json") for m in record.measurements)]
        for record in records
    }
    text = json.dumps([board.model_dump(mode="json"), numbers], sort_keys=True)
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def _task(name: str) -> Json:
    card = registry().card(name)
    facts = card.model_dump(mode="json")
    for metric in facts["metrics"]:
        metric |= grade_facts(name, card.version, metric["id"])
    return facts


def _left_out(entry: LeftOut) -> Json:
    who = entry.record.identity
    return {
        "record_id": entry.record.record_id,
        "sae": entry.record.sae.name,
        "task": who.task,
        "task_version": who.task_version,
        "reason": entry.reason,
    }


def _saes(gathered: Gathered) -> Json:
    """Return, by slug, everything that was measured of an SAE or group at one site, with any preset."""
    by_subject: dict[Subject, list[Record]] = {}
    for of_place in gathered.tasks.values():
        for of_task in of_place.values():
            for subject, record in of_task.items():
                by_subject.setdefault(subject, []).append(record)
    pages = {}
    for subject, records in sorted(by_subject.items(), key=lambda item: gathered.slugs[item[0]]):
        records.sort(key=lambda record: (record.identity.task, record.preset, record.record_id))
        info = records[0].sae
        pages[gathered.slugs[subject]] = {
            "sae": info.name,
            "architecture": info.architecture,
            "hook": info.hook,
            "d_in": info.d_in,
            "d_sae": info.d_sae,
            "records": [_record(record) for record in records],
            "densities": _densities(gathered, records),
        }
    return pages


def _record(record: Record) -> Json:
    kept = {"record_id", "preset", "status", "error", "counts", "provenance", "identity"}
    return {
        **record.model_dump(mode="json", include=kept),
        "task": record.identity.task,
        "task_version": record.identity.task_version,
        "measurements": [m.model_dump(mode="json", exclude={"contributions"}) for m in record.measurements],
        "command": command(record),
    }


def _densities(gathered: Gathered, records: Sequence[Record]) -> Json | None:
    """Return the histogram of log10 of the share of tokens on which each latent fires, and the number that never does.

    None where no record holds densities. If there are several presets, the one with the most tokens counts.
    """
    known = [(record.counts.get("tokens", 0), record) for record in records]
    for _, record in sorted(known, key=lambda item: (-item[0], item[1].record_id)):
        density = gathered.arrays(record).get("density")
        if density is not None and density.dtype.kind in "biuf":
            alive = np.log10(density[density > 0].astype(np.float64))
            counts, _ = np.histogram(np.clip(alive, _DENSITY_EDGES[0], _DENSITY_EDGES[-1]), _DENSITY_EDGES)
            edges = [round(float(edge), 6) for edge in _DENSITY_EDGES]
            return {"edges": edges, "counts": counts.tolist(), "dead": int((density == 0).sum())}
    return None
