"""What SAEs ask about a language model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from saebench.lm.facts import Facts
from saebench.lm.load import load_lm


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("family", "ignores"), [("gpt2", True), ("llama", False), ("gemma2", False)])
def test_only_models_with_layer_norm_ignore_the_mean(
    request: pytest.FixtureRequest, family: str, ignores: bool, dtype: torch.dtype
) -> None:
    folder: Path = request.getfixturevalue(f"tiny_{family}_dir")
    lm = load_lm(str(folder), device=torch.device("cpu"), dtype=dtype)
    assert Facts(lm).ignores_mean() is ignores


class Named:
    def __init__(self, name: str) -> None:
        self.name, self.config = name, None


@pytest.mark.parametrize(
    ("model", "name", "same"),
    [
        ("hf:openai-community/gpt2", "gpt2", True),
        ("hf:openai-community/gpt2", "gpt2-small", True),  # TransformerLens' name
        ("asset:gemma-3-270m", "google/gemma-3-270m", True),
        ("asset:gemma-3-270m", "asset:gemma-3-270m", True),
        ("asset:gemma-3-270m", "google/gemma-3-270m-it", False),
        ("hf:EleutherAI/pythia-70m@step3", "pythia-70m", True),
        ("models/GPT2/", "gpt2-small", True),
        ("models/mine", "gpt2", False),
    ],
)
def test_names(model: str, name: str, same: bool) -> None:
    assert Facts(Named(model)).is_called(name) is same  # type: ignore[arg-type]


def test_revision() -> None:
    assert Facts(Named("hf:a/b@step3")).revision == "step3"  # type: ignore[arg-type]
    assert Facts(Named("hf:a/b")).revision is None  # type: ignore[arg-type]
    assert Facts(Named("folder@step3")).revision is None  # type: ignore[arg-type]
