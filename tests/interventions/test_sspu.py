"""Training that unlearns: against a naive reimplementation on the unwrapped model, and what it promises."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from saebench.data.tokens import TokenBatch
from saebench.errors import DataError, HookMismatchError, ModelError, SaebenchError, UsageError
from saebench.interventions.finetune import FineTune, prepare
from saebench.interventions.sspu import train, unlearn
from saebench.interventions.subspaces import Subspaces
from saebench.interventions.weights import WeightDelta
from saebench.lm.load import load_lm
from saebench.lm.model import LanguageModel
from saebench.stats.rng import generator
from tests.conftest import FAMILIES
from tests.interventions.finetuning import (
    FORGET,
    LAYERS,
    RETAIN,
    SITE,
    orthonormal,
    outside,
    settings,
    snapshot,
    texts,
    untouched,
)
from tests.lm.conftest import CPU, Pair, make_pair


@pytest.fixture(scope="module", params=FAMILIES)
def pair(request: pytest.FixtureRequest) -> Pair:
    return make_pair(request.param, request.getfixturevalue(f"tiny_{request.param}_dir"))


@pytest.fixture(scope="module")
def lm(tiny_gemma3_dir: Path) -> LanguageModel:
    return load_lm(str(tiny_gemma3_dir), device=CPU, dtype=torch.float32)


def flat(delta: WeightDelta) -> Tensor:
    return torch.cat([change.flatten() for change in delta.changes.values()])


def relative(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).norm() / theirs.norm())


# ---------------------------------------------------------------- the independent implementation


def naive(pair: Pair, how: FineTune, irrelevant: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """(dW, losses) of full passes of the unwrapped model, every sequence at every step, no penalty."""
    layer = int(SITE.split(".")[1])

    def h(batch: TokenBatch) -> Tensor:
        found = pair.plain.base_model(batch.tokens, output_hidden_states=True, use_cache=False).hidden_states
        return found[layer + 1][batch.evaluated]

    projections = [
        block.mlp.c_proj if pair.family == "gpt2" else block.mlp.down_proj
        for block in (pair.plain_blocks[trained] for trained in LAYERS)
    ]
    weights = [projection.weight for projection in projections]
    before = [weight.data.clone() for weight in weights]
    with torch.no_grad():
        clean = h(RETAIN)
        square = torch.cat([clean, h(FORGET)]).square().sum(1).mean()
    r = torch.from_numpy(generator(how.seed, "fine-tune:target").standard_normal(32)).float()
    if irrelevant is not None:
        r = irrelevant.float() @ torch.linalg.lstsq(irrelevant.float(), r[:, None]).solution[:, 0]
    target = how.coefficient * square.sqrt() * r / r.norm()
    groups = [
        {"params": [w.requires_grad_(True)], "lr": how.lr * float(w.detach().square().mean().sqrt())} for w in weights
    ]
    optimizer = torch.optim.Adam(groups)
    losses = []
    for _ in range(how.steps):
        forget = (h(FORGET) - target).square().sum(1).mean() / square
        retain = (h(RETAIN) - clean).square().sum(1).mean() / square
        losses.append([forget.item(), retain.item()])
        optimizer.zero_grad()
        (forget + how.alpha * retain).backward()
        optimizer.step()
    changes = []
    for weight, old in zip(weights, before, strict=True):
        changes.append((weight.data - old).flatten())
        weight.requires_grad_(False)
        weight.grad, weight.data = None, old
    return torch.cat(changes), torch.tensor(losses)


@pytest.mark.parametrize("guided", [False, True])
def test_it_is_training_with_full_passes_of_the_unwrapped_model(pair: Pair, guided: bool):
    how = settings(steps=5, forget_batch=6, retain_batch=6)
    basis = orthonormal(3) if guided else None
    delta = unlearn(pair.lm, FORGET, RETAIN, how, Subspaces(None, basis) if guided else None)
    changes, losses = naive(pair, how, basis)
    torch.testing.assert_close(delta.losses, losses, rtol=1e-3, atol=1e-5)
    assert relative(flat(delta), changes) < 0.02  # Adam turns the rounding of small gradients into steps


def test_it_is_the_same_where_only_full_passes_work(pair: Pair, monkeypatch: pytest.MonkeyPatch):
    how = settings(steps=4, layers=(1,))
    fast = unlearn(pair.lm, FORGET, RETAIN, how, None)
    monkeypatch.setattr(pair.lm, "suffix_supported", False)
    slow = unlearn(pair.lm, FORGET, RETAIN, how, None)
    assert relative(flat(fast), flat(slow)) < 0.02


# ---------------------------------------------------------------- what it promises


def test_it_forgets_and_alpha_is_what_retains(pair: Pair):
    free, held = (
        unlearn(pair.lm, FORGET, RETAIN, settings(alpha=alpha, steps=14), None).losses for alpha in (0.0, 20.0)
    )
    assert free[-1, 0] < held[-1, 0] < 0.97 * held[0, 0]
    assert held[-1, 1] < 0.5 * free[-1, 1]
    assert float(held[0, 1]) < 1e-9  # before the first step nothing has changed


def test_a_large_penalty_confines_what_is_written_to_the_relevant_span(pair: Pair):
    basis = orthonormal(4)
    shares = []
    for penalty in (0.0, 1e3, 1e9):
        delta = unlearn(
            pair.lm, FORGET, RETAIN, settings(penalty=penalty, steps=6, forget_batch=6), Subspaces(basis, None)
        )
        shares.append(outside(pair.lm, delta, basis))
        assert delta.losses[-1, 0] < delta.losses[0, 0]
    assert shares[0] > 0.8
    assert shares[1] < 0.9 * shares[0]
    assert shares[2] < 1e-5


def test_rmu_is_sspu_in_the_whole_space(lm: LanguageModel):
    rmu = unlearn(lm, FORGET, RETAIN, settings(steps=5), None)
    everything = Subspaces(torch.eye(32), torch.eye(32))
    for penalty in (0.0, 1e6):
        sspu = unlearn(lm, FORGET, RETAIN, settings(steps=5, penalty=penalty), everything)
        assert relative(flat(sspu), flat(rmu)) < 1e-3


def test_the_seed_decides_and_no_global_generator_is_drawn_from(lm: LanguageModel):
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first, again, other = (unlearn(lm, FORGET, RETAIN, settings(steps=3, seed=seed), None) for seed in (0, 0, 1))
    assert torch.equal(flat(first), flat(again))
    assert relative(flat(other), flat(first)) > 0.1
    assert torch.equal(torch.get_rng_state(), state)


def test_padding_and_what_follows_it_count_in_no_loss(lm: LanguageModel):
    def padded(batch: TokenBatch) -> TokenBatch:
        tokens = torch.cat([batch.tokens, torch.zeros(len(batch.tokens), 5, dtype=torch.long)], dim=1)
        return TokenBatch(tokens, tokens > 3, n_documents=batch.n_documents)

    how = settings(steps=3)
    plain = unlearn(lm, FORGET, RETAIN, how, None)
    torch.testing.assert_close(unlearn(lm, padded(FORGET), padded(RETAIN), how, None).losses, plain.losses)


def test_the_model_leaves_as_it_came(pair: Pair):
    before = snapshot(pair.lm)
    unlearn(pair.lm, FORGET, RETAIN, settings(steps=2), None)
    assert untouched(pair.lm, before)


def test_the_model_leaves_as_it_came_even_when_training_is_cut_short(pair: Pair):
    class Cut:
        @contextmanager
        def task(self, *_: Any) -> Any:
            yield self

        def advance(self, n: float = 1) -> None:
            raise KeyboardInterrupt

        def log(self, message: str) -> None: ...

    before = snapshot(pair.lm)
    with pytest.raises(KeyboardInterrupt):
        unlearn(pair.lm, FORGET, RETAIN, settings(), None, Cut())
    assert untouched(pair.lm, before)


def test_trained_weights_change_the_site_as_the_last_losses_say(lm: LanguageModel):
    """Strength 1 is the end of the training, strength 0 its beginning."""
    how = settings(steps=10, forget_batch=6, retain_batch=6)
    delta = unlearn(lm, FORGET, RETAIN, how, None)
    longer = unlearn(lm, FORGET, RETAIN, replace(how, steps=11), None)
    clean = lm.prefix(RETAIN.tokens, [SITE])[SITE]
    data = prepare(lm, FORGET, RETAIN, how)
    with delta.applied(lm):
        moved = (lm.prefix(RETAIN.tokens, [SITE])[SITE] - clean)[RETAIN.evaluated].square().sum(1).mean()
    assert float(moved) / data.mean_square == pytest.approx(float(longer.losses[10, 1]), rel=1e-3)


def test_one_reading_serves_several_trainings(lm: LanguageModel):
    data = prepare(lm, FORGET, RETAIN, settings(steps=4))
    guided = Subspaces.random(32, 4, 4, np.random.default_rng(0))
    other = settings(steps=4, alpha=5.0, penalty=10.0, lr=0.01)
    for how, subspaces in ((settings(steps=4), None), (other, guided)):
        alone = unlearn(lm, FORGET, RETAIN, how, subspaces)
        assert torch.equal(flat(train(lm, data, how, subspaces)), flat(alone))
    for other in (settings(steps=4, seed=1), settings(steps=4, layers=(1,)), settings(steps=3)):
        with pytest.raises(UsageError, match="prepare them with the same settings"):
            train(lm, data, other, None)


def test_no_more_is_read_than_the_steps_ask_for(lm: LanguageModel):
    data = prepare(lm, texts(0, 4, 40, sequences=20), RETAIN, settings(steps=2, forget_batch=3))
    assert (len(data.forget.tokens), len(data.retain.tokens)) == (6, 6)


def test_bfloat16_weights_gather_small_steps(tiny_gemma3_dir: Path):
    lm = load_lm(str(tiny_gemma3_dir), device=CPU, dtype=torch.bfloat16)
    before = snapshot(lm)
    delta = unlearn(lm, FORGET, RETAIN, settings(steps=15, lr=0.001, forget_batch=6, retain_batch=6), None)
    assert all(change.dtype == torch.float32 for change in delta.changes.values())
    assert float((flat(delta) != 0).double().mean()) > 0.99  # in bfloat16 many weights would round every step away
    assert delta.losses[-1, 0] < delta.losses[0, 0]
    assert untouched(lm, before)


def test_the_description_is_json_and_tells_what_differs(lm: LanguageModel):
    guided = Subspaces.random(32, 4, 4, np.random.default_rng(0))
    runs = [
        unlearn(lm, forget, RETAIN, how, subspaces).describe()
        for forget, how, subspaces in (
            (FORGET, settings(steps=1), None),
            (FORGET, settings(steps=1, alpha=3.0), None),
            (FORGET, settings(steps=1), guided),
            (texts(5, 4, 40), settings(steps=1), None),
        )
    ]
    said = {json.dumps(run, sort_keys=True, allow_nan=False) for run in runs}
    assert len(said) == 4
    assert runs[0]["layers"] == [0, 1]


# ---------------------------------------------------------------- bad input


def test_layers_default_to_the_site_and_the_two_before_it():
    assert FineTune("blocks.9.hook_resid_post").layers == (7, 8, 9)
    assert FineTune("blocks.1.hook_resid_post").layers == (0, 1)
    assert FineTune("blocks.9.hook_resid_post", (9, 3)).start == "blocks.3.hook_resid_pre"


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"site": "blocks.1.hook_mlp_out"}, "must be a hook_resid_post, unlike 'blocks.1.hook_mlp_out'"),
        ({"layers": (1, 2)}, r"layers \[1, 2\] cannot be trained for blocks.1.hook_resid_post; use layers from 0 to 1"),
        ({"layers": (-1,)}, "use layers from 0 to 1"),
        ({"steps": 0}, "steps of a fine-tune must be at least 1, not 0"),
        ({"retain_batch": 0}, "retain_batch"),
        ({"alpha": -1.0}, "alpha of a fine-tune must be at least 0"),
        ({"lr": float("nan")}, "lr must be a finite number"),
    ],
)
def test_settings_that_cannot_be_are_named(changed: dict[str, Any], why: str):
    with pytest.raises(UsageError, match=why):
        settings(**changed)


def test_a_site_that_the_model_does_not_have_is_named(lm: LanguageModel):
    with pytest.raises(HookMismatchError, match="4 blocks, 0 to 3"):
        unlearn(lm, FORGET, RETAIN, FineTune("blocks.9.hook_resid_post"), None)


def test_subspaces_of_another_width_are_named(lm: LanguageModel):
    with pytest.raises(HookMismatchError, match="residual stream has 32"):
        unlearn(lm, FORGET, RETAIN, settings(), Subspaces.random(16, 2, 2, np.random.default_rng(0)))


def test_texts_of_special_tokens_alone_are_named(lm: LanguageModel):
    empty = TokenBatch(FORGET.tokens, torch.zeros_like(FORGET.evaluated), n_documents=1)
    with pytest.raises(DataError, match="The retain texts of the fine-tune hold only special tokens"):
        unlearn(lm, FORGET, empty, settings(), None)


def test_divergence_is_named_and_leaves_no_trace(lm: LanguageModel):
    before = snapshot(lm)
    with pytest.raises(SaebenchError, match=r"diverged at step 1.*use a lower lr"):
        unlearn(lm, FORGET, RETAIN, settings(lr=1e38), None)
    assert untouched(lm, before)


def test_a_model_changed_in_the_meantime_is_refused(lm: LanguageModel):
    delta = unlearn(lm, FORGET, RETAIN, settings(steps=1), None)
    data = prepare(lm, FORGET, RETAIN, settings())
    with delta.applied(lm), pytest.raises(UsageError, match="another model"):
        train(lm, data, settings(), None)
    with pytest.raises(ModelError), delta.applied(lm), delta.applied(lm):
        pass
