"""Train the zoo: the SAEs of Gemma-3-270m, layer 9, residual stream, that are bundled with saebench.

    python scripts/train_zoo.py capture --work DIR --tokens 6000000   # captures activations, once
    python scripts/train_zoo.py train --work DIR [NAME ...]           # trains one SAE after another, with SAELens
    python scripts/train_zoo.py publish --work DIR                    # writes float16 weights into saebench/zoo_data

The training text is the zoo's share of the sae-probes asset (saebench/data/heldout.py), which no evaluation reads.
Activations are centred and scaled for training, and the scaling is folded back into the weights, so a published SAE
takes and returns raw activations. About 0.2 % of this model's tokens (mostly apostrophes) are attention sinks, whose
activation along one dimension is 500 times larger than that of others. Nine in ten of them are left out of training,
because they would be most of the loss; every evaluation keeps them.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.format import open_memmap
from safetensors.torch import load_file, save_file

from saebench.data.heldout import key, zoo_documents
from saebench.data.probes import dataset_names
from saebench.data.text import load_documents, tokenize
from saebench.lm.load import load_lm
from saebench.lm.model import LanguageModel
from saebench.progress import ConsoleProgress
from saebench.sae.base import LoadContext
from saebench.sae.reference import load_sae
from saebench.sae.zoo import ZOO_DIR
from saebench.stats.intervals import ratio
from saebench.stats.reconstruction import Centre, ReconstructionSums
from saebench.stats.rng import generator
from saebench.stats.sparsity import FiringCounts

MODEL, HOOK = "asset:gemma-3-270m", "blocks.9.hook_resid_post"
# Held-out text: a file of news that training did not read, and held-out documents of two files that it did read.
HELD_OUT = ("asset:sae-probes/97_news_class", "asset:sae-probes/100_news_fake", "asset:sae-probes/111_yelp_data")
CONTEXT, D_SAE = 256, 2048
# The number of a file -> at most so many tokens of it are read; None means the whole zoo share.
FILES: dict[int, int | None] = {
    45: 400_000, 48: None, 49: None, 56: None, 57: None, 58: None, 59: None, 60: None, 61: None, 62: None, 63: None,
    64: None, 94: None, 98: 400_000, 100: None, 101: None, 111: None, 158: 350_000, 159: 350_000, 160: 250_000,
}  # fmt: skip
SINK_NORM, SINK_KEPT = 30.0, 0.1  # the norm of a sink is more than 30 times the median
BATCH, LR, WARM_UP, DEAD_WINDOW = 512, 6e-4, 200, 250


@dataclass(frozen=True)
class Recipe:
    """How one SAE of the zoo is trained."""

    architecture: str
    k: int
    seed: int
    group: str
    frozen_decoder: bool = False


ZOO = {
    "topk-k32-s0": Recipe("topk", 32, 0, "topk-k32"),
    "topk-k32-s1": Recipe("topk", 32, 1, "topk-k32"),
    "topk-k32-s2": Recipe("topk", 32, 2, "topk-k32"),
    "topk-k64-s0": Recipe("topk", 64, 0, "topk-k64"),
    "batchtopk-k32-s0": Recipe("batchtopk", 32, 0, "batchtopk-k32"),
    "frozen-topk-k32-s0": Recipe("topk", 32, 0, "frozen-topk-k32", frozen_decoder=True),
}


# ---------------------------------------------------------------------------- capture


def training_tokens(tokenizer: Any) -> np.ndarray:
    """Return training sequences ``[sequences, CONTEXT]``, each with BOS first.

    They are made of distinct documents, in the order of their hashes, joined by EOS.
    """
    names = {int(name.split("_")[0]): name for name in dataset_names() if not name.endswith("_OOD")}
    seen: set[str] = set()
    documents: list[tuple[bytes, list[int]]] = []
    for number, cap in FILES.items():
        taken = 0
        texts = zoo_documents(load_documents(f"asset:sae-probes/{names[number]}", exclude_zoo_text=False)).texts
        for text in texts:
            identity = key(text)
            if identity in seen:
                continue
            seen.add(identity)
            if cap is not None and taken >= cap:
                break
            ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
            documents.append((hashlib.blake2b(identity.encode(), digest_size=8, person=b"order").digest(), ids))
            taken += len(ids)
    documents.sort(key=lambda document: document[0])
    stream = np.array([token for _, ids in documents for token in [*ids, tokenizer.eos_token_id]], dtype=np.int64)
    rows = len(stream) // (CONTEXT - 1)
    tokens = np.full((rows, CONTEXT), tokenizer.bos_token_id, dtype=np.int64)
    tokens[:, 1:] = stream[: rows * (CONTEXT - 1)].reshape(rows, CONTEXT - 1)
    return tokens


def capture(work: Path, wanted: int, batch: int = 16) -> None:
    """Write about ``wanted`` centred and scaled activations (float16), and their normalisation."""
    work.mkdir(parents=True, exist_ok=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    lm = load_lm(MODEL, device=device, dtype=torch.float32)
    tokens = training_tokens(lm.tokenizer)
    mask = ~np.isin(tokens, lm.tokenizer.all_special_ids)
    rows = int(np.searchsorted(mask.sum(1).cumsum(), wanted)) + 1
    tokens, mask = tokens[:rows], mask[:rows]
    total = int(mask.sum())

    def activations(start: int) -> torch.Tensor:
        where = torch.from_numpy(mask[start : start + batch]).to(device)
        return lm.prefix(torch.from_numpy(tokens[start : start + batch]).to(device), [HOOK])[HOOK][where]

    spread = np.linspace(0, max(rows - batch, 0), 16).astype(int)
    sample = torch.cat([activations(int(start)) for start in spread]).double()
    norms = (sample - sample.mean(0)).norm(dim=1)
    typical = sample[norms < SINK_NORM * norms.median()]
    mean = typical.mean(0)
    scale = (typical - mean).square().mean().sqrt()
    save_file({"mean": mean.cpu(), "scale": scale.cpu()}, work / "normalisation.safetensors")
    store = open_memmap(work / "activations.npy", mode="w+", dtype=np.float16, shape=(total, lm.d_model))
    position = 0
    with ConsoleProgress().task("capture", total, "tokens") as ticker:
        for start in range(0, rows, batch):
            values = ((activations(start).double() - mean) / scale).half().cpu().numpy()
            store[position : position + len(values)] = values
            position += len(values)
            ticker.advance(len(values))
    store.flush()


# ---------------------------------------------------------------------------- training


def train(work: Path, name: str, samples: int) -> None:
    """Train one SAE with SAELens' trainer on random batches of the captured activations."""
    from sae_lens import BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig, TopKTrainingSAE, TopKTrainingSAEConfig
    from sae_lens.config import SAETrainerConfig
    from sae_lens.training.sae_trainer import SAETrainer

    recipe = ZOO[name]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    data = np.load(work / "activations.npy", mmap_mode="r")
    rows = training_rows(data)
    rng = generator(recipe.seed, "zoo data order")
    torch.manual_seed(1000 + recipe.seed)
    settings = {"d_in": data.shape[1], "d_sae": D_SAE, "k": recipe.k, "decoder_init_norm": 1.0, "device": device}
    sae: TopKTrainingSAE = (
        TopKTrainingSAE(TopKTrainingSAEConfig(**settings))
        if recipe.architecture == "topk"
        else BatchTopKTrainingSAE(BatchTopKTrainingSAEConfig(**settings))
    )
    sae.W_dec.requires_grad_(not recipe.frozen_decoder)
    steps = samples // BATCH

    def batches() -> Iterator[torch.Tensor]:
        while True:
            order = rng.permutation(rows)
            for start in range(0, len(order) - BATCH + 1, BATCH):
                yield torch.from_numpy(data[np.sort(order[start : start + BATCH])]).float()

    trainer = SAETrainer(
        SAETrainerConfig(
            total_training_samples=samples,
            train_batch_size_samples=BATCH,
            lr=LR,
            lr_end=LR / 10,
            lr_warm_up_steps=WARM_UP,
            lr_decay_steps=steps // 4,
            dead_feature_window=DEAD_WINDOW,
            feature_sampling_window=1000,
            device=device,
        ),
        sae,
        batches(),
    )
    started = time.monotonic()
    trainer.fit()
    folder = work / "trained" / name
    shutil.rmtree(folder, ignore_errors=True)
    sae.save_inference_model(folder)
    facts = {
        "recipe": asdict(recipe),
        "training_samples": trainer.n_training_samples,
        "distinct_tokens": len(rows),
        "steps": trainer.n_training_steps,
        "batch_size": BATCH,
        "learning_rate": LR,
        "training_seconds": round(time.monotonic() - started),
    }
    (folder / "training.json").write_text(json.dumps(facts, indent=2))
    print(name, facts, flush=True)


def training_rows(data: np.ndarray) -> np.ndarray:
    """Return the indices of the tokens to train on: all except nine in ten of the attention sinks."""
    norms = np.concatenate(
        [np.linalg.norm(data[start : start + 65536].astype(np.float32), axis=1) for start in range(0, len(data), 65536)]
    )
    sinks = np.flatnonzero(norms > SINK_NORM * np.median(norms))
    left_out = generator(0, "zoo sinks").permutation(sinks)[int(SINK_KEPT * len(sinks)) :]
    return np.setdiff1d(np.arange(len(data)), left_out)


# ---------------------------------------------------------------------------- publishing


def publish(work: Path) -> None:
    """Fold the normalisation into the weights, store them as float16, and describe the SAEs in ``zoo.json``."""
    normalisation = load_file(work / "normalisation.safetensors")
    cards: dict[str, dict[str, Any]] = {}
    for name, recipe in ZOO.items():
        source, target = work / "trained" / name, ZOO_DIR / name
        target.mkdir(parents=True, exist_ok=True)
        weights = fold(load_file(source / "sae_weights.safetensors"), normalisation["mean"], normalisation["scale"])
        save_file(
            {key: value.half().contiguous() for key, value in weights.items()}, target / "sae_weights.safetensors"
        )
        config = json.loads((source / "cfg.json").read_text())
        config |= {"device": "cpu", "dtype": "float32"}
        config["metadata"] |= {"hook_name": HOOK, "model_name": MODEL, "context_size": CONTEXT, "prepend_bos": True}
        (target / "cfg.json").write_text(json.dumps(config, indent=2) + "\n")
        cards[name] = _card(recipe, json.loads((source / "training.json").read_text()))
    index = ZOO_DIR / "zoo.json"
    index.write_text(json.dumps(cards, indent=2) + "\n")  # from now on the SAEs can be loaded by their names
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    lm = load_lm(MODEL, device=device, dtype=torch.float32)
    for text in reversed(HELD_OUT):
        for name, quality in held_out_quality(lm, list(cards), text).items():
            headline = {metric: value for metric, value in quality.items() if metric != "tokens"}
            cards[name] |= {**headline, "held_out": {text: quality, **cards[name].get("held_out", {})}}
            print(name, text, quality, flush=True)
    index.write_text(json.dumps(cards, indent=2) + "\n")


def held_out_quality(lm: LanguageModel, names: list[str], text: str, sequences: int = 128) -> dict[str, dict[str, Any]]:
    """Return FVU, L0 and dead share of published SAEs on documents that training did not read."""
    batch = tokenize(load_documents(text), lm.tokenizer, 128, sequences)
    parts = []
    for start in range(0, sequences, 16):
        rows = slice(start, start + 16)
        parts.append(lm.prefix(batch.tokens[rows].to(lm.device), [HOOK])[HOOK][batch.evaluated[rows].to(lm.device)])
    x, sequence = torch.cat(parts), batch.evaluated.nonzero()[:, 0].to(lm.device)
    quality: dict[str, dict[str, Any]] = {}
    for name in names:
        sae = load_sae(f"zoo:{name}", LoadContext(device=lm.device))
        sums, firing = ReconstructionSums(sequences, Centre.of(x)), FiringCounts(sequences, sae.d_sae)
        for where in torch.arange(len(x)).split(4096):
            with torch.no_grad():
                z = sae.encode(x[where])
                sums.add(x[where], sae.decode(z, x[where]), sequence[where])
                firing.add(z, sequence[where])
        values = {metric: ratio(num.numpy(), den.numpy()) for metric, (num, den) in sums.ratios().items()}
        values |= {metric: ratio(num, den) for metric, (num, den) in firing.ratios().items()}
        shown = {metric: round(values[metric], 4) for metric in ("fvu", "fvu_standardised", "l0")}
        quality[name] = {**shown, "dead_share": firing.shares()["dead_share"].value, "tokens": len(x)}
    return quality


def fold(weights: dict[str, torch.Tensor], mean: torch.Tensor, scale: torch.Tensor) -> dict[str, torch.Tensor]:
    """Turn the weights of an SAE trained on ``(x - mean) / scale`` into weights for raw activations.

    The rows of the decoder must have unit norm. The latents are in units of the raw activation: both the input and the
    output of the encoder are multiplied by ``scale``, so ``W_enc`` and the rows of ``W_dec`` stay as they are.
    """
    out = {key: value.double() for key, value in weights.items()}
    for bias in ("b_enc", "threshold"):
        if bias in out:
            out[bias] = out[bias] * scale
    out["b_dec"] = out["b_dec"] * scale + mean
    return out


def _card(recipe: Recipe, training: dict[str, Any]) -> dict[str, Any]:
    return {
        "architecture": recipe.architecture,
        "group": recipe.group,
        "k": recipe.k,
        "seed": recipe.seed,
        "frozen_decoder": recipe.frozen_decoder,
        "control": recipe.frozen_decoder,
        "d_sae": D_SAE,
        "hook": HOOK,
        "model": MODEL,
        "training": {key: value for key, value in training.items() if key != "recipe"},
        "data": "the zoo share (60 % of documents, by content hash) of sae-probes files "
        + ", ".join(map(str, FILES))
        + f"; contexts of {CONTEXT} tokens",
        "licence": "Apache-2.0 for the weights; activations of Gemma-3-270m, subject to the Gemma terms of use",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=["capture", "train", "publish"])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"SAEs to train (default: all of {', '.join(ZOO)})")
    parser.add_argument("--work", type=Path, required=True, help="folder for activations and checkpoints (8 GB)")
    parser.add_argument("--tokens", type=int, default=6_000_000, help="distinct tokens to capture (default 6,000,000)")
    parser.add_argument(
        "--samples", type=int, default=6_000_000, help="tokens to train on, counting repeats (default: 6,000,000)"
    )
    parser.add_argument("--threads", type=int, default=None, help="CPU threads (default: all)")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.step == "capture":
        capture(options.work, options.tokens)
    elif options.step == "train":
        for name in options.names or ZOO:
            train(options.work, name, options.samples)
    else:
        publish(options.work)


if __name__ == "__main__":
    main()
