"""The inputs that both sides share: token sequences, SAE folders, and a hub cache with the language model."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from saebench.data import assets
from saebench.data.split import split_documents
from saebench.data.text import load_documents
from saebench.data.tokens import TokenBatch, tokenize
from saebench.sae.zoo import zoo_folder, zoo_names
from saebench.stats.rng import generator

TEXT = "asset:sae-probes/97_news_class"
SEED = 0
_CFG, _WEIGHTS = "cfg.json", "sae_weights.safetensors"


@dataclass(frozen=True)
class Work:
    """The work that both sides evaluate: a hook point of a language model, on tokens of `TEXT`."""

    model: str
    hook: str
    sequences: int
    context_length: int = 128

    @property
    def tokens(self) -> int:
        """The number of tokens."""
        return self.sequences * self.context_length


def evaluation_tokens(work: Work) -> TokenBatch:
    """Return the sequences that ``core`` evaluates for this work with seed 0."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(model_folder(work.model)))
    documents = split_documents(load_documents(TEXT), generator(SEED, f"split:{TEXT}")).evaluation
    return tokenize(documents, tokenizer, work.context_length, work.sequences, SEED)


def model_folder(model: str) -> Path:
    """Return the folder of an ``asset:`` language model, which is fetched if it is missing."""
    return assets.pull(model.removeprefix("asset:"))


def write_tokens(batch: TokenBatch, folder: Path) -> Path:
    """Write a pre-tokenised dataset to ``folder``, which is returned: a JSON Lines file with the column ``tokens``."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "tokens.jsonl").open("w", encoding="utf-8") as file:
        for row in batch.tokens.tolist():
            file.write(json.dumps({"tokens": row}) + "\n")
    return folder


def sae_folders(n: int, work_folder: Path) -> list[Path]:
    """Return the folders of ``n`` SAEs of one shape.

    They are the SAEs of the zoo, followed by ``topk-k32-s0`` with its latents in other orders. A permuted SAE costs the
    same, but it has other weights and so another fingerprint, and therefore shares nothing with the original.
    """
    folders = [zoo_folder(name) for name in zoo_names()][:n]
    for index in range(n - len(folders)):
        folders.append(_permuted(zoo_folder("topk-k32-s0"), work_folder / f"permuted-{index}", index))
    return folders


def _permuted(source: Path, target: Path, seed: int) -> Path:
    weights = load_file(source / _WEIGHTS)
    order = torch.randperm(len(weights["b_enc"]), generator=torch.Generator().manual_seed(seed))
    weights |= {
        "W_enc": weights["W_enc"][:, order].contiguous(),
        "W_dec": weights["W_dec"][order].contiguous(),
        "b_enc": weights["b_enc"][order].contiguous(),
    }
    return _write_sae(target, json.loads((source / _CFG).read_text(encoding="utf-8")), weights)


def random_topk(folder: Path, *, d_in: int, d_sae: int, k: int, hook: str, model: str, seed: int) -> Path:
    """Write a TopK SAE with random float32 weights in SAELens' format into ``folder``, which is returned.

    The time that it takes does not depend on the values of the weights.
    """
    draw = torch.Generator().manual_seed(seed)
    decoder = torch.nn.functional.normalize(torch.randn(d_sae, d_in, generator=draw), dim=1)
    weights = {
        "W_enc": decoder.T.contiguous(),
        "W_dec": decoder,
        "b_enc": torch.zeros(d_sae),
        "b_dec": torch.zeros(d_in),
    }
    config = {
        "architecture": "topk",
        "k": k,
        "d_in": d_in,
        "d_sae": d_sae,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "rescale_acts_by_decoder_norm": False,
        "metadata": {"hook_name": hook, "model_name": model, "prepend_bos": True},
    }
    return _write_sae(folder, config, weights)


def _write_sae(folder: Path, config: dict[str, object], weights: dict[str, torch.Tensor]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _CFG).write_text(json.dumps(config), encoding="utf-8")
    save_file(weights, folder / _WEIGHTS)
    return folder


def hub_cache(model: str, repository: str, home: Path) -> Path:
    """Make a Hugging Face home in which ``repository`` is this copy of ``model``, so that others load it offline."""
    revision = "0" * 40
    root = home / "hub" / f"models--{repository.replace('/', '--')}"
    snapshot = root / "snapshots" / revision
    snapshot.mkdir(parents=True, exist_ok=True)
    (root / "refs").mkdir(exist_ok=True)
    (root / "refs" / "main").write_text(revision, encoding="utf-8")
    for file in model_folder(model).iterdir():
        link = snapshot / file.name
        if not link.exists():
            link.symlink_to(file)
    return home
