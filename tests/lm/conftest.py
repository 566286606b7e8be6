"""Each tiny model twice: under saebench's hooks, and as Hugging Face made it, to check the first against."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from saebench.lm.load import load_lm
from saebench.lm.model import LanguageModel
from tests.conftest import FAMILIES, VOCABULARY

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Pair:
    """A model under hooks and the same model without; ``tokens`` are longer than the sliding window of 6."""

    family: str
    lm: LanguageModel
    plain: Any
    tokens: torch.Tensor

    @property
    def plain_blocks(self) -> Any:
        base = self.plain.base_model
        return base.h if self.family == "gpt2" else base.layers


def make_pair(family: str, folder: Path) -> Pair:
    plain = transformers.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32)
    tokens = torch.randint(4, VOCABULARY, (3, 40), generator=torch.Generator().manual_seed(1))
    lm = load_lm(str(folder), device=CPU, dtype=torch.float32)
    return Pair(family, lm, plain.eval().requires_grad_(False), tokens)


@pytest.fixture(scope="session", params=FAMILIES)
def pair(request: pytest.FixtureRequest) -> Pair:
    """Each family in turn."""
    return make_pair(request.param, request.getfixturevalue(f"tiny_{request.param}_dir"))


@pytest.fixture(scope="session")
def llama(tiny_llama_dir: Path) -> Pair:
    """One family, for what does not depend on the family."""
    return make_pair("llama", tiny_llama_dir)
