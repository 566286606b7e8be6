"""SAEs of every format go through every task: each job is measured, or says why it cannot be."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from saebench.cards.registry import registry
from saebench.progress import NullProgress
from saebench.results.record import Record, Status
from saebench.runner.execute import execute
from saebench.runner.plan import make_plan
from saebench.runner.request import make_request
from saebench.sae.base import LoadContext
from saebench.sae.group_ref import written_in_group
from saebench.sae.protocol import SAE
from saebench.sae.reference import load_sae, parse_sae_ref
from saebench.sae.registry import scheme_registry
from saebench.tasks.factory import create
from tests.conftest import CONTEXT, VOCABULARY, TinyLM
from tests.runner.conftest import Inputs
from tests.runner.spellings import make_project, options, parameters
from tests.sae.catalogue import CASES, WIDTH

SITE, OTHER_SITE = "blocks.1.hook_resid_post", "blocks.0.hook_resid_post"
# The example of a scheme is its first case, unless that one says less: Nanda's reads two language models.
CHOSEN = {"nanda_crosscoder": "several nanda-layers", "sae_lens": "sae_lens topk"}
# SAEs that lack what some tasks need, and transcoders.
MORE = (
    "sae_lens standard-layer_norm",
    "sae_lens abstopk",
    "sae_lens temporal",
    "sae_lens matching_pursuit",
    "sae_lens jumprelu_skip_transcoder",
)
SCHEMES = {*scheme_registry().file_formats(), "python", "baseline"}
TASKS = tuple(name for name in registry().names() if registry().card(name).model == "language")
OF_GROUPS = tuple(name for name in TASKS if registry().card(name).scope != "sae")
OF_SAES = tuple(name for name in TASKS if registry().card(name).scope != "group")


@dataclass(frozen=True)
class Jobs:
    """The references by name, the SAEs behind those that can be loaded alone, and the records by name and task."""

    references: dict[str, str]
    saes: dict[str, SAE]
    records: dict[tuple[str, str], Record]


@pytest.fixture(scope="module")
def references(tmp_path_factory: pytest.TempPathFactory, inputs: Inputs) -> dict[str, str]:
    """References to SAEs of every scheme, at hook points of the tiny language model."""
    root = tmp_path_factory.mktemp("saes")
    cases = {name: make(root / str(number)) for number, (name, make) in enumerate(CASES.items())}
    first: dict[str, str] = {}
    for name, case in cases.items():
        first.setdefault(case.reference.partition(":")[0], name)
    written = {name: at_site(cases[name].reference) for name in dict.fromkeys([*(first | CHOSEN).values(), *MORE])}
    (root / "map.yaml").write_text(
        "name: mine\ntitle: mine\nweights: ['*.npz']\nactivation: {kind: relu}\n"
        "tensors: {W_enc: W_enc, W_dec: W_dec, b_enc: b_enc, b_dec: b_dec}\n"
    )
    return {
        **written,
        "map": f"file:{cases['gemma_scope'].path / 'params.npz'}?hook={SITE}&map={root / 'map.yaml'}",
        "factory": inputs.factory("tiny", does="well", width=WIDTH),
        "pca": f"baseline:pca?hook={SITE}&k=16",
        "permuted": f"baseline:permuted-decoder({written['sae_lens topk']})",
    }


def at_site(reference: str) -> str:
    """Return the reference with a hook point of the tiny language model, where the SAE does not have several."""
    hook = load_sae(reference, LoadContext()).hook
    if hook.several:
        return reference
    base, _, query = reference.partition("?")
    kept = [option for option in query.split("&") if option and not option.startswith("hook")]
    transcoder = hook.site_in != hook.site_out
    sites = ["hook=blocks.1.mlp.hook_in", "hook_out=blocks.1.hook_mlp_out"] if transcoder else [f"hook={SITE}"]
    return f"{base}?{'&'.join([*kept, *sites])}"


@pytest.fixture(scope="module")
def model(tiny_gpt2: TinyLM, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a GPT-2 whose width is that of the examples."""
    config = transformers.GPT2Config(
        vocab_size=VOCABULARY,
        n_positions=CONTEXT,
        n_embd=WIDTH,
        n_layer=3,
        n_head=2,
        initializer_range=0.25,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=2,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        lm = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    folder = tmp_path_factory.mktemp("narrow")
    lm.eval().save_pretrained(folder)
    tiny_gpt2[1].save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def jobs(
    references: dict[str, str], model: Path, tiny_llama_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Jobs:
    """The records of every task on every SAE, or on every SAE in a group of two."""
    root = tmp_path_factory.mktemp("adapters")
    project = make_project(root / "project", model, tiny_llama_dir)
    settings = parameters(lambda path: str(project / path))
    # Less of what takes time and asks nothing new of an SAE.
    settings["sparse_probing"] |= {"k": [1], "regimes": [], "baselines": []}
    settings["concept_suppression"] |= {"latents": [1]}
    settings["joint_splice"] = settings["core"]
    del settings["seed_stability"]["at_init"]  # SAEs of another width
    saes = {name: load_sae(ref, LoadContext()) for name, ref in references.items() if not ref.startswith("baseline:")}
    records: dict[tuple[str, str], Record] = {}

    def run(tasks: tuple[str, ...], names: dict[str, str], **subjects: list[str]) -> None:
        request: dict[str, Any] = {
            **options(lambda path: str(project / path)),
            "tasks": list(tasks),
            "parameters": {task: settings[task] for task in tasks},
            "out": root / "results",
            **subjects,
        }
        for record in execute(make_plan(make_request(request)), NullProgress()).records:
            # Beside the groups, a task of both kinds measures their members, which are known already.
            if name := names.get(record.identity.sae) or names.get(record.sae.name):
                records[name, record.identity.task] = record

    own = {str(parse_sae_ref(reference)): name for name, reference in references.items()}
    run(OF_SAES, own, sae=list(references.values()))
    hooks = {name: str(saes[name].hook) if name in saes else SITE for name in references}
    apart = references["dictionary_learning_AutoEncoder"].replace(SITE, OTHER_SITE)
    for task in OF_GROUPS:
        groups = []
        for number, (name, hook) in enumerate(hooks.items()):
            others = [one for one in hooks if one != name]
            beside = references[next((one for one in others if hooks[one] == hook), others[0])]
            pair = (references[name], apart if registry().card(task).groups == "sites" else beside)
            groups.append(f"g{number}={','.join(written_in_group(parse_sae_ref(reference)) for reference in pair)}")
        names = {f"group:g{number}": f"{name} in a group" for number, name in enumerate(hooks)}
        run((task,), names, sae_group=groups)
    return Jobs(references, saes, records)


def test_nothing_fails(jobs: Jobs) -> None:
    assert [(*key, r.error) for key, r in jobs.records.items() if r.status is Status.FAILED] == []


def test_every_scheme_is_there(jobs: Jobs) -> None:
    assert {reference.partition(":")[0] for reference in jobs.references.values()} == SCHEMES
    assert {task for _, task in jobs.records} == set(TASKS)


@pytest.mark.parametrize("task", OF_SAES)
def test_an_sae_is_measured_exactly_if_it_has_what_the_task_needs(jobs: Jobs, task: str) -> None:
    """docs/adapters.md says by this rule which tasks apply to which SAEs."""
    for name, sae in jobs.saes.items():
        record = jobs.records[name, task]
        applies = create(task).needs <= sae.capabilities and (create(task).several_sites or not sae.hook.several)
        assert record.status is (Status.OK if applies else Status.NOT_APPLICABLE), (name, record.error)
        assert applies or record.error.startswith(f"{task} ")


@pytest.mark.parametrize("task", OF_GROUPS)
def test_a_group_is_measured_if_its_members_have_what_the_task_needs(jobs: Jobs, task: str) -> None:
    for name, sae in jobs.saes.items():
        record = jobs.records[f"{name} in a group", task]
        applies = create(task).needs <= sae.capabilities and not sae.hook.several
        if not applies:
            assert (record.status, bool(record.error)) == (Status.NOT_APPLICABLE, True), name
        elif record.status is not Status.OK:  # some examples of different formats hold the same weights
            assert task == "seed_stability", name
            assert "holds one dictionary twice" in record.error or "holds the same SAE twice" in record.error, name
    measured = [name for name in jobs.saes if jobs.records[f"{name} in a group", task].status is Status.OK]
    assert len(measured) > len(jobs.saes) / 3
