"""Several interventions in one batch: each row as if alone, on activations and in generation."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from saebench.errors import SaebenchError, UsageError
from saebench.interventions import Intervention, on_texts, parse_intervention
from saebench.interventions.compose import Composed
from saebench.interventions.noise import EqualNormNoise
from saebench.interventions.rows import Rows, generate_settings
from saebench.interventions.steer import Steer
from saebench.interventions.vectors import AddVector
from saebench.lm.generate import generate
from saebench.lm.intervene import logits
from saebench.lm.kv import can_share
from saebench.lm.load import load_lm
from saebench.lm.model import LanguageModel
from saebench.lm.sampling import Sampling
from saebench.sae.base import LoadContext
from saebench.sae.protocol import SAE, HookSite
from saebench.sae.reference import load_sae
from tests.conftest import VOCABULARY, WIDTH
from tests.interventions.conftest import CASES, CAUSAL, activations, latents_of

ROWS, LENGTH = 5, 9


def of_case(name: str) -> Intervention:
    return CASES[name].build(latents_of("topk"))


class TestOnActivations:
    """Rows 0 and 3 under the case, 1 and 4 under steering that remembers, 2 alone."""

    x = activations(rows=ROWS, length=LENGTH)
    mask = torch.arange(LENGTH).expand(ROWS, LENGTH) >= torch.tensor([[0], [2], [1], [3], [0]])

    def expected(self, case: str) -> Tensor:
        out = self.x.clone()
        for chosen, rows in ((of_case(case), [0, 3]), (of_case("steer-input-mean"), [1, 4])):
            for row in rows:
                out[row] = on_texts(chosen, self.x[row : row + 1], self.mask[row : row + 1])[0]
        return out

    @pytest.mark.parametrize("case", CAUSAL)
    @pytest.mark.parametrize("cuts", [[LENGTH], [4, 1, 1, 3]])
    def test_each_row_as_if_alone(self, case: str, cuts: list[int]):
        a, b = of_case(case), of_case("steer-input-mean")
        rows, before = Rows([a, b, None, a, b]), self.x.clone()
        rows(self.x.flip(1), self.mask)  # other texts, to be forgotten
        rows.reset()
        parts = zip(self.x.split(cuts, dim=1), self.mask.split(cuts, dim=1), strict=True)
        found = torch.cat([rows(x, mask) for x, mask in parts], dim=1)
        torch.testing.assert_close(found, self.expected(case), rtol=1e-5, atol=1e-5)
        assert torch.equal(self.x, before)
        assert torch.equal(found[2], self.x[2])
        assert torch.equal(found[~self.mask], self.x[~self.mask])

    def test_what_is_read_elsewhere_goes_to_its_rows(self):
        edit = CASES["clamp"].build(latents_of("transcoder"))
        assert edit.reads != edit.site
        x, source = activations(edit.latents.sae.d_out, seed=5), activations(edit.latents.sae.d_in)
        mask = torch.ones(x.shape[:2], dtype=torch.bool)
        added = AddVector(edit.site, torch.ones(x.shape[-1]), 2.0)
        rows = Rows([added, None, edit])
        assert rows.reads == edit.reads
        found = rows(x, mask, source)
        torch.testing.assert_close(found[0], x[0] + 2)
        torch.testing.assert_close(found[2], on_texts(edit, x[2:], mask[2:], source[2:])[0])

    def test_description_and_causality(self):
        clamp, whole = of_case("clamp"), of_case("dsg-whole")
        assert Rows([clamp, None]).causal
        assert not Rows([clamp, whole]).causal
        assert Rows([clamp, None]).describe()["rows"] == [clamp.describe(), None]


class TestRefusals:
    def test_a_shared_part_would_mix_memories(self):
        steer = of_case("steer-input")
        with pytest.raises(UsageError, match="share one"):
            Rows([steer, EqualNormNoise(steer, 0)])
        with pytest.raises(UsageError, match="share one"):
            Rows([Composed([steer]), Composed([of_case("clamp"), steer])])

    def test_several_sites_or_none(self):
        def vector(layer: int) -> AddVector:
            return AddVector(f"blocks.{layer}.hook_resid_post", torch.ones(4), 1.0)

        with pytest.raises(UsageError, match=r"one site, not at blocks\.0.*, blocks\.1"):
            Rows([vector(0), vector(1)])
        with pytest.raises(UsageError, match="none"):
            Rows([None])

    def test_another_number_of_rows(self):
        with pytest.raises(SaebenchError, match=r"2 interventions .* batch of 3"):
            Rows([of_case("clamp"), None])(activations(rows=3), torch.ones(3, 9, dtype=torch.bool))


SITE = "blocks.1.hook_resid_post"
NEW = 4
PROMPTS = [[2, 50, 51, 40], [2, 60, 61, 62, 63, 64, 65, 66], [2, 70, 71]]
SPECS = {
    "clamp": "clamp:latents={};value=-20",
    "dsg": "dsg:latents={};tau=0.6;value=-20",
    "input": "steer:latents={};strength=-8;tier=input;weight=mean",
    "token": "steer:latents={};strength=-8;tier=token",
    "dropped": "steer:latents={};strength=8;tier=input;error=dropped",
}


@pytest.fixture(scope="module")
def lm(tiny_gemma3_dir: Path) -> LanguageModel:
    return load_lm(str(tiny_gemma3_dir), device=torch.device("cpu"), dtype=torch.float32)


@pytest.fixture(scope="module")
def sae(lm: LanguageModel) -> SAE:
    tokens = torch.randint(4, VOCABULARY, (3, 20), generator=torch.Generator().manual_seed(1))
    x = lm.prefix(tokens, [SITE])[SITE].flatten(0, 1)
    context = LoadContext(hook=HookSite.at(SITE), calibration=lambda _: x, d_in=lambda _: WIDTH)
    found = load_sae("baseline:random?d_sae=96&l0=12", context)
    share = (found.encode(x) != 0).double().mean(0)
    found.named = "/".join(map(str, (share - 0.4).abs().argsort()[:3].tolist()))  # type: ignore[attr-defined]
    return found


@pytest.fixture(scope="module")
def settings(sae: SAE) -> Callable[[], list[Intervention | None]]:
    """Those of SPECS, the clean model in their midst, and noise that is made from one of them."""

    def build() -> list[Intervention | None]:
        found: list[Intervention | None] = [
            parse_intervention(spec.format(sae.named), sae)  # type: ignore[attr-defined]
            for spec in SPECS.values()
        ]
        steer = found[2]
        assert isinstance(steer, Steer)
        elsewhere = AddVector("blocks.2.hook_resid_post", torch.linspace(-9, 9, WIDTH), 1.0)
        return [*found[:3], None, *found[3:], EqualNormNoise(steer, 0), elsewhere, found[0]]

    return build


def first(found: list[list[list[list[int]]]]) -> list[list[list[int]]]:
    """``[interventions][prompts]`` under the first sampling."""
    return [[continuations[0] for continuations in new] for new in found]


DRAWN = Sampling(temperature=1.5, top_p=0.95, seed=3)


@pytest.mark.parametrize(
    ("batch_size", "samplings"),
    [(4, [None]), (32, [None]), (7, [DRAWN]), (32, [None, DRAWN, Sampling(seed=5)]), (4, [DRAWN, None])],
)
def test_together_as_each_alone(
    lm: LanguageModel,
    settings: Callable[[], list[Intervention | None]],
    batch_size: int,
    samplings: list[Sampling | None],
):
    alone = partial(generate, lm, PROMPTS, max_new_tokens=NEW)
    found = generate_settings(lm, PROMPTS, settings(), max_new_tokens=NEW, samplings=samplings, batch_size=batch_size)
    for number, sampling in enumerate(samplings):
        of_sampling = [[continuations[number] for continuations in new] for new in found]
        assert of_sampling == [alone(intervention=each, sampling=sampling) for each in settings()]
        assert of_sampling[0] == of_sampling[-1]  # the same object twice


def test_with_the_cache_as_from_scratch(lm: LanguageModel, settings: Callable[[], list[Intervention | None]]):
    found = first(generate_settings(lm, PROMPTS, settings(), max_new_tokens=NEW))
    for new, intervention in zip(found, settings(), strict=True):
        for tokens, prompt in zip(new, PROMPTS, strict=True):
            text = list(prompt)
            for token in tokens:
                assert int(logits(lm, torch.tensor([text]), intervention=intervention)[0, -1].argmax()) == token
                text.append(token)
    assert [new == found[3] for new in found].count(True) == 1  # only the clean model is like the clean model


def test_a_later_token_changes_no_earlier_step(lm: LanguageModel, settings: Callable[[], list[Intervention | None]]):
    longer = first(generate_settings(lm, PROMPTS, settings(), max_new_tokens=NEW))
    shorter = first(generate_settings(lm, PROMPTS, settings(), max_new_tokens=2))
    assert shorter == [[tokens[:2] for tokens in new] for new in longer]


@pytest.mark.parametrize("sampling", [None, Sampling(seed=1)])
def test_strength_zero_is_clean_and_draws_are_paired(lm: LanguageModel, sae: SAE, sampling: Sampling | None):
    idle = ["none", "steer:latents=1,2;strength=0;tier=input", "scale:latents=1,2;factor=1"]
    interventions = [*(parse_intervention(spec, sae) for spec in idle), None]
    prompts = [*PROMPTS, PROMPTS[0]]
    found = generate_settings(lm, prompts, interventions, max_new_tokens=NEW, samplings=[sampling])
    assert found[0] == found[1] == found[2] == found[3]
    assert (found[3][0] == found[3][-1]) == (sampling is None)  # the same prompt at another place is drawn anew


def test_what_settings_have_in_common_is_read_once(
    lm: LanguageModel, settings: Callable[[], list[Intervention | None]]
):
    rows: dict[str, list[tuple[int, int]]] = {"blocks.0.hook_resid_pre": [], "blocks.1.hook_resid_pre": []}
    can_share(lm)  # tried once, beforehand
    at_one_site = settings()[:6]
    with lm.hooks({name: lambda x, name=name: rows[name].append(tuple(x.shape[:2])) for name in rows}):
        generate_settings(lm, PROMPTS, at_one_site, max_new_tokens=3, samplings=[None, DRAWN], batch_size=96)
    n, width = len(PROMPTS), max(map(len, PROMPTS))
    texts = n * len(at_one_site)
    steps = [(2 * texts, 1)] * 2
    assert rows["blocks.0.hook_resid_pre"] == [(n, width), *steps]  # the prompts alone
    assert rows["blocks.1.hook_resid_pre"] == [(n, width), (texts, width), *steps]  # one for both samplings


def test_progress_counts_continuations(lm: LanguageModel):
    done: list[int] = []
    generate_settings(
        lm, PROMPTS, [None, None], max_new_tokens=1, samplings=[None, DRAWN], batch_size=8, done=done.append
    )
    assert done == [8, 4]


def test_nothing_to_do(lm: LanguageModel):
    assert generate_settings(lm, PROMPTS, [], max_new_tokens=1) == []
    assert generate_settings(lm, [], [None, None], max_new_tokens=1) == [[], []]


def test_a_bad_prompt_is_named_by_its_place(lm: LanguageModel):
    with pytest.raises(UsageError, match="Prompt 1 has no tokens"):
        generate_settings(lm, [[2, 5], []], [None, None, None], max_new_tokens=1)
