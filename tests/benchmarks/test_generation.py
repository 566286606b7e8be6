"""Both sides of the generation benchmark do the same work: the same texts under the same vectors."""

import pytest
import torch
import transformers

from benchmarks.generation import WAYS, GenerationWork, one_by_one, ours, steering_vectors
from saebench.lm.load import load_lm

CPU = torch.device("cpu")


@pytest.mark.parametrize("family", ["gemma3", "llama"])
@pytest.mark.parametrize("way", WAYS)
def test_both_sides_write_the_same(family, way, request):
    folder = request.getfixturevalue(f"tiny_{family}_dir")
    plain = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    lm = load_lm(str(folder), device=CPU, dtype=torch.float32)
    work = GenerationWork("tiny", "blocks.1.hook_resid_post", new_tokens=5)
    tokens = torch.randint(4, 90, (4, 7), generator=torch.Generator().manual_seed(0))
    prompts = torch.cat([torch.full((4, 1), 2), tokens], dim=1)  # BOS first
    prompts[1, 4] = 1  # the end of a text, in the middle of a prompt: special tokens are left alone
    vectors = steering_vectors(3, lm.d_model, CPU)
    found = ours(lm, work, prompts, vectors, WAYS[way])
    assert found == one_by_one(plain, lm.tokenizer.all_special_ids, work, prompts, vectors, WAYS[way])
    assert len({str(setting) for setting in found}) == 3, "the vectors change what is written"
