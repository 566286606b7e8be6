"""The record: what one job (one SAE, task and seed) measured, with its identity and provenance.

A record is one JSON file. The contribution of every unit to its numbers is stored beside it (``.npz``), so that two
SAEs can be compared on the same units and intervals can be computed again.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

SCHEMA_VERSION = 1
GROUP = "group:"  # the names of groups of SAEs begin with it in tables


class Status(StrEnum):
    OK = "ok"
    FAILED = "failed"
    NOT_APPLICABLE = "not_applicable"


class Measurement(BaseModel):
    """One number with its uncertainty. A ``value`` of NaN is not scored: it is written as null, with a reason."""

    model_config = ConfigDict(extra="forbid")

    metric: str
    subset: str = ""  # a dataset or concept, for example; "" means all of the data
    value: float | None
    stderr: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    n: int | None = None  # how many units the number is computed from
    unit: str = ""  # what a unit is: sequence, document, dataset, latent, pair
    interval: str = ""  # how the interval was made: "bootstrap-t", "jackknife", ...
    contributions: str | None = None  # key of the arrays `<key>.num`, `<key>.den` in the .npz
    not_scored: str | None = None  # the reason why the value is null


class Identity(BaseModel):
    """Everything that decides the numbers. Its hash is the record id."""

    model_config = ConfigDict(extra="forbid")

    task: str
    task_version: int
    parameters: dict[str, Any]  # all settings of the task: defaults, preset and overrides
    seed: int
    model: str  # its reference
    model_fingerprint: str
    dtype: str
    device_class: str  # "cpu" or "cuda"
    sae: str  # its reference
    sae_fingerprint: str
    # The reference of a text or dataset, or PARAMETER:REFERENCE, -> its content hash. The record id is made from the
    # hashes; the references are for readers.
    data: dict[str, str]


class Provenance(BaseModel):
    """How and where a record was made: for information, never part of the identity."""

    model_config = ConfigDict(extra="forbid")

    created: datetime  # in UTC, with its time zone
    saebench_version: str
    git_commit: str | None = None  # the commit of the harness, not of the user's folder
    git_dirty: bool | None = None
    python: str
    platform: str
    packages: dict[str, str]
    device: str
    cpu_count: int | None = None
    wall_seconds: float
    peak_memory_mb: float | None = None
    arguments: dict[str, Any] = Field(default_factory=dict)  # as the user gave them
    # The reference of a model or SAE on the hub -> the commit that its revision meant. Older records have none.
    commits: dict[str, str] = Field(default_factory=dict)


class SAEInfo(BaseModel):
    """The SAE or group of SAEs that was measured."""

    model_config = ConfigDict(extra="forbid")

    name: str
    architecture: str
    hook: str
    d_in: int
    d_sae: int
    l0: float | None = None
    control: bool = False  # a control is shown, and never ranked
    notes: dict[str, Any] = Field(default_factory=dict)


class Record(BaseModel):
    """What one job measured, or why it measured nothing."""

    model_config = ConfigDict(extra="forbid")

    schema_version: int = SCHEMA_VERSION
    record_id: str
    preset: str
    status: Status
    error: str = ""
    error_type: str = ""
    identity: Identity
    sae: SAEInfo
    measurements: list[Measurement] = Field(default_factory=list)
    # The kind of a unit -> the sha256 of the content of all units of this kind, in order. Records of older versions
    # and of tasks that name no units have none.
    units: dict[str, Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]] = Field(default_factory=dict)
    counts: dict[str, int] = Field(default_factory=dict)  # of tokens, sequences, numbers not scored, ...
    notes: dict[str, Any] = Field(default_factory=dict)  # what the task chose on the way, such as latents
    # The checksum of the arrays beside this record (`saebench.results.record_arrays`), which the store fills in.
    # Records of older versions and records without numbers have none.
    arrays_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    provenance: Provenance


# Arrays that are stored beside a record's JSON: the contributions, and others such as the densities of latents.
Arrays = dict[str, np.ndarray]
