"""The floor does the passes that it claims: its second model is the tail of the first one."""

import pytest
import torch

from benchmarks.floor import Floor, blocks_from


@pytest.fixture(params=["gemma2", "gemma3", "llama"])
def model(request):
    return request.getfixturevalue(f"tiny_{request.param}")[0]


@pytest.fixture
def tokens():
    return torch.randint(4, 100, (5, 12), generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def test_the_blocks_after_a_hook_give_the_full_models_hidden_states(model, tokens):
    base = model.base_model
    residual = []
    handle = base.layers[0].register_forward_hook(
        lambda _m, _i, out: residual.append(out[0] if isinstance(out, tuple) else out)
    )
    full = base(input_ids=tokens, use_cache=False).last_hidden_state
    handle.remove()
    suffix = blocks_from(base, 1)
    assert torch.allclose(suffix(inputs_embeds=residual[0], use_cache=False).last_hidden_state, full, atol=1e-5)
    assert suffix.layers[0] is base.layers[1], "the weights are shared"


def test_every_sae_costs_a_suffix_pass_and_a_product_for_each_batch(model, tokens, monkeypatch):
    floor = Floor(model, 1, tokens, batch=2)
    seen = []
    monkeypatch.setattr(floor, "_product", lambda hidden: seen.append(hidden.shape[0]))
    floor.run(3)
    assert seen == [2, 2, 1] * (1 + 2 + 3), "clean, zero, mean, and three SAEs"
    seen.clear()
    floor.warm_up()
    assert seen == [2] * 3


@torch.no_grad()
def test_a_product_covers_every_position_but_the_last_and_the_whole_vocabulary(model, tokens, monkeypatch):
    floor = Floor(model, 1, tokens)
    done = []
    multiply = torch.mm
    monkeypatch.setattr(torch, "mm", lambda a, b, out: done.append(a.shape[0] * b.shape[1]) or multiply(a, b, out=out))
    floor.run(0)
    assert sum(done) == 3 * 5 * 11 * len(floor.head)
