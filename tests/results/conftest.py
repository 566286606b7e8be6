"""Fixtures that make records: `identity(**changes)`, `record(...)`, `number(metric, value, low, high)`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from saebench.cards.registry import registry
from saebench.results.identity import record_id
from saebench.results.record import Identity, Measurement, Provenance, Record, SAEInfo, Status

VERSION = registry().card("core").version


def make_identity(**changes: Any) -> Identity:
    values: dict[str, Any] = {
        "task": "core",
        "task_version": VERSION,
        "parameters": {"text": "asset:sae-probes/97_news_class", "sequences": 128, "scale": 0.1},
        "seed": 0,
        "model": "asset:gemma-3-270m",
        "model_fingerprint": "aa" * 32,
        "dtype": "bfloat16",
        "device_class": "cpu",
        "sae": "zoo:topk-k32-s0",
        "sae_fingerprint": "bb" * 32,
        "data": {"asset:sae-probes/97_news_class": "cc" * 32},
    }
    return Identity(**(values | changes))


def make_record(
    who: Identity | None = None,
    *,
    measurements: list[Measurement] | None = None,
    status: Status = Status.OK,
    error: str = "",
    hook: str = "blocks.9.hook_resid_post",
    control: bool = False,
    l0: float | None = 32.0,
    preset: str = "quick",
    created: datetime = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    units: dict[str, str] | None = None,
) -> Record:
    who = who or make_identity()
    return Record(
        record_id=record_id(who),
        preset=preset,
        status=status,
        error=error,
        identity=who,
        sae=SAEInfo(name=who.sae, architecture="topk", hook=hook, d_in=640, d_sae=2048, l0=l0, control=control),
        measurements=measurements or [],
        units=units or {},
        provenance=Provenance(
            created=created,
            saebench_version="0.1.0",
            python="3.11.7",
            platform="Linux",
            packages={"torch": "2.13.0"},
            device="cpu",
            wall_seconds=12.5,
        ),
    )


def make_number(
    metric: str, value: float | None, low: float | None = None, high: float | None = None, **more: Any
) -> Measurement:
    return Measurement(metric=metric, value=value, ci_low=low, ci_high=high, **({"n": 128, "unit": "sequence"} | more))


@pytest.fixture(scope="session")
def identity() -> Callable[..., Identity]:
    return make_identity


@pytest.fixture(scope="session")
def record() -> Callable[..., Record]:
    return make_record


@pytest.fixture(scope="session")
def number() -> Callable[..., Measurement]:
    return make_number
