"""The floor: the work that ``core`` cannot avoid, as bare passes of the language model and bare products.

The clean pass needs the whole model and a product of every hidden state with the vocabulary. Zero ablation, mean
ablation and every SAE need the blocks after the hook and another such product. Nothing else is done: there is no loss,
no statistic, no SAE, no hook and no splicing. The blocks after the hook are a model of their own that shares the
weights.
"""

from __future__ import annotations

import copy
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.arithmetic import ratio_of_medians
from benchmarks.inputs import SEED, TEXT, Work, evaluation_tokens, model_folder, sae_folders
from benchmarks.ours import evaluate, loading_with
from benchmarks.record import BenchmarkResult
from saebench.lm.load import load_lm, resolve_device, resolve_dtype
from saebench.lm.site import parse_site
from saebench.progress import Progress

ABLATIONS = 2
BATCH = 16  # the sequences of a pass
# The sizes of a product with the vocabulary that were fastest on a CPU, whose cache holds the logits, and on a GPU.
TOKENS = 1024
VOCABULARY = 4096
VOCABULARY_CUDA = 65536

Measurement = dict[str, Any]


class Floor:
    """The bare work for one language model and hook."""

    def __init__(self, model: Any, first_block: int, tokens: Tensor, batch: int = BATCH) -> None:
        """Prepare the work.

        Args:
            model: A plain causal language model of transformers.
            first_block: The first block after the hook.
            tokens: The sequences.
            batch: The number of sequences of a pass.
        """
        self.base = model.base_model
        self.head: Tensor = model.get_output_embeddings().weight
        self.suffix = blocks_from(self.base, first_block)
        self.batches = tokens.to(self.head.device).split(batch)
        with torch.no_grad():
            width = self.base(input_ids=self.batches[0][:, :1], use_cache=False).last_hidden_state.shape[-1]
        draw = torch.Generator().manual_seed(SEED)
        self.residual = [
            torch.randn(*rows.shape, width, generator=draw).to(self.head.device, self.head.dtype)
            for rows in self.batches
        ]
        self._rows = VOCABULARY_CUDA if self.head.is_cuda else VOCABULARY
        self._logits = self.head.new_empty(TOKENS * self._rows)

    def warm_up(self) -> None:
        """Run the first batch, so that weights that are read from a file when they are first used are in memory."""
        batches, residual = self.batches, self.residual
        self.batches, self.residual = batches[:1], residual[:1]
        self.run(0)
        self.batches, self.residual = batches, residual

    @torch.no_grad()
    def run(self, saes: int) -> None:
        """Do the work of evaluating ``saes`` SAEs."""
        for rows in self.batches:
            self._product(self.base(input_ids=rows, use_cache=False).last_hidden_state)
        for _ in range(ABLATIONS + saes):
            for residual in self.residual:
                self._product(self.suffix(inputs_embeds=residual, use_cache=False).last_hidden_state)

    def _product(self, hidden: Tensor) -> None:
        """Compute the logits of all positions but the last, tile by tile into one buffer."""
        for rows in hidden[:, :-1].flatten(0, 1).split(TOKENS):
            for weight in self.head.split(self._rows):
                tile = self._logits[: len(rows) * len(weight)].view(len(rows), len(weight))
                torch.mm(rows, weight.T, out=tile)


def blocks_from(base: Any, first: int) -> Any:
    """Return a model of the blocks of ``base`` from ``first`` on and its last norm, which shares the weights.

    It is called with ``inputs_embeds``.
    """
    config = copy.deepcopy(base.config)
    config.num_hidden_layers -= first
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[first:]
    with torch.device("meta"):
        suffix = type(base)(config)
    suffix.layers = nn.ModuleList(base.layers[first:])
    suffix.norm, suffix.rotary_emb = base.norm, base.rotary_emb
    return suffix.eval()


def timed(work: Callable[[], object], device: torch.device) -> float:
    """Return the seconds that ``work`` takes, including what the device has in its queue."""
    _wait(device)
    begun = time.perf_counter()
    work()
    _wait(device)
    return time.perf_counter() - begun


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measure(
    work: Work, counts: Sequence[int], repeats: int, device_name: str, dtype_name: str, progress: Progress
) -> BenchmarkResult:
    """Measure saebench's evaluation and the floor alternately, in this process.

    Args:
        work: What is evaluated.
        counts: The numbers of SAEs.
        repeats: How often the smallest number of SAEs is measured.
        device_name: The device.
        dtype_name: The dtype.
        progress: Receives the progress.
    """
    from transformers import AutoModelForCausalLM

    device = resolve_device(device_name)
    dtype = resolve_dtype(dtype_name, device)
    batch = evaluation_tokens(work)
    lm = load_lm(work.model, device=device, dtype=dtype)
    plain = AutoModelForCausalLM.from_pretrained(str(model_folder(work.model)), dtype=dtype).eval().to(device)
    floor = Floor(plain, parse_site(work.hook).layer + 1, batch.tokens)
    floor.warm_up()
    measurements: list[Measurement] = []
    with tempfile.TemporaryDirectory() as name, loading_with(lambda *_, **__: lm):
        for number in counts:
            settings = {
                "saes": [f"sae_lens:{folder}" for folder in sae_folders(number, Path(name) / "saes")],
                "model": work.model,
                "text": TEXT,
                "sequences": work.sequences,
                "context_length": work.context_length,
                "dtype": dtype_name,
                "device": device_name,
            }
            for repeat in range(repeats if number == min(counts) else 1):
                out = Path(name) / f"out-{number}-{repeat}"
                for side, call in (
                    ("floor", lambda number=number: floor.run(number)),
                    ("ours", lambda settings=settings, out=out: evaluate(settings, out)),
                ):
                    seconds = timed(call, device)
                    progress.log(f"{number} SAEs, {side}: {seconds:.1f} s")
                    measurements.append({"side": side, "saes": number, "repeat": repeat, "seconds": seconds})
    settings = asdict(work) | {
        "text": TEXT,
        "tokens_sha256": batch.content_hash,
        "dtype": str(dtype).removeprefix("torch."),
        "batch": BATCH,
        "first_block_after_hook": parse_site(work.hook).layer + 1,
    }
    return BenchmarkResult.now("floor", settings, measurements, ratios(measurements), device=str(device))


def ratios(measurements: Sequence[Measurement]) -> dict[str, float]:
    """Return ``share/<number of SAEs>``, the floor's seconds over saebench's."""
    shares = {}
    for number in dict.fromkeys(m["saes"] for m in measurements):
        rows = [m for m in measurements if m["saes"] == number]
        floor, ours = ([m["seconds"] for m in rows if m["side"] == side] for side in ("floor", "ours"))
        shares[f"share/{number}"] = ratio_of_medians(floor, ours)
    return shares
