"""Every task gives an SAE and its copies with rescaled or reordered latents the same numbers.

The copies compute the same function (`saebench.sae.adversaries`), so a number that differs is one of how latents are
written down.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from saebench.cards.registry import registry
from saebench.progress import NullProgress
from saebench.results.record import Record, Status
from saebench.runner.execute import execute
from saebench.runner.plan import make_plan
from saebench.runner.request import make_request
from saebench.sae.group_ref import written_in_group
from saebench.sae.reference import parse_sae_ref
from tests.runner.conftest import save_topk
from tests.runner.spellings import make_project, options, parameters

# The draws of `seed_stability` are seeded by fingerprints, which copies do not share; its own tests look after it.
TASKS = tuple(
    name for name in registry().names() if registry().card(name).model == "language" and name != "seed_stability"
)
COPIES = ("rescaled", "reordered")
Numbers = dict[tuple[str, str], float]


@pytest.fixture(scope="module")
def records(tiny_gpt2_dir: Path, tiny_llama_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[Any, Record]:
    """The records of every task, by task and ``""`` for the SAE or one of COPIES."""
    root = tmp_path_factory.mktemp("units")
    project = make_project(root / "project", tiny_gpt2_dir, tiny_llama_dir)
    settings = parameters(lambda path: str(project / path))
    elsewhere = save_topk(root / "elsewhere", 1, "blocks.0.hook_resid_post")
    saes = [f"sae_lens:{project / 'saes' / 'one'}", f"sae_lens:{elsewhere}"]  # `joint_splice` takes both
    out: dict[Any, Record] = {}
    for task in TASKS:
        scope = registry().card(task).scope
        for copy in ("", *COPIES):
            refs = [f"adversary:{copy}({ref})" if copy else ref for ref in saes]
            members = ",".join(written_in_group(parse_sae_ref(ref)) for ref in refs)
            subject = {"sae": refs[:1]} if scope != "group" else {"sae_group": [f"pair={members}"]}
            request = {
                **options(lambda path: str(project / path)),
                "tasks": [task],
                "parameters": {task: settings[task]},
                "out": root / "results",
                **subject,
            }
            (out[task, copy],) = execute(make_plan(make_request(request)), NullProgress()).records
    return out


def numbers(record: Record) -> Numbers:
    """The values by metric and subset; subsets that name an SAE are left out.

    Bounds are left out too: with the few units here, those of some intervals move with the last digit of a value.
    """
    return {
        (m.metric, m.subset): np.nan if m.value is None else m.value for m in record.measurements if ":" not in m.subset
    }


@pytest.mark.parametrize("copy", COPIES)
@pytest.mark.parametrize("task", TASKS)
def test_a_copy_has_the_numbers_of_its_sae(records: dict[Any, Record], task: str, copy: str) -> None:
    own, other = records[task, ""], records[task, copy]
    assert (own.status, other.status) == (Status.OK, Status.OK), (own.error, other.error)
    expected, actual = numbers(own), numbers(other)
    assert expected.keys() == actual.keys()
    moved = {
        key: (expected[key], actual[key])
        for key in expected
        if not np.allclose(expected[key], actual[key], rtol=1e-4, atol=1e-5, equal_nan=True)
    }
    assert moved == {}
