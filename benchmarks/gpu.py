"""Measure ``core`` on a GPU: ``python -m benchmarks.gpu``.

The language model has the shape of Gemma-2-2B and random weights. Only shapes determine the speed, so nothing is
downloaded: the weights, the text and the SAEs are drawn here, and the tokenizer has one token for each byte. To test
the code, ``--tiny --device cpu`` runs it on a small model.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from benchmarks.floor import Floor, timed
from benchmarks.ours import evaluate, loading_with
from benchmarks.record import RESULTS, BenchmarkResult
from saebench.data.text import load_documents
from saebench.data.tokens import tokenize
from saebench.errors import SaebenchError
from saebench.lm.model import LanguageModel
from saebench.progress import ConsoleProgress, Progress

KINDS = ("topk", "jumprelu")
REPEATS = 3
Measurement = dict[str, Any]


@dataclass(frozen=True)
class Shape:
    """The sizes of the language model, the work and the SAEs."""

    model: dict[str, int]
    layer: int
    widths: tuple[int, ...]
    saes: tuple[int, ...]
    sequences: int
    context_length: int
    k: int = 64


GEMMA_2_2B = Shape(
    model={
        "vocab_size": 256_000,
        "hidden_size": 2304,
        "intermediate_size": 9216,
        "num_hidden_layers": 26,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
    },
    layer=12,
    widths=(16_384, 65_536),
    saes=(1, 16),
    sequences=1024,
    context_length=128,
)
TINY = Shape(
    model={
        "vocab_size": 300,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 16,
    },
    layer=1,
    widths=(64, 128),
    saes=(1, 2),
    sequences=4,
    context_length=16,
    k=4,
)


def random_lm(shape: Shape, device: torch.device, dtype: torch.dtype, folder: Path) -> LanguageModel:
    """Return a Gemma-2 with random weights, ready for splicing. Its configuration is written to ``folder``."""
    from transformers import AutoTokenizer, Gemma2Config, Gemma2ForCausalLM

    config = Gemma2Config(**shape.model, pad_token_id=0, eos_token_id=1, bos_token_id=2)
    config.save_pretrained(folder)
    torch.manual_seed(0)
    default = torch.get_default_dtype()
    try:
        torch.set_default_dtype(dtype)
        with device:
            model = Gemma2ForCausalLM(config).eval()
    finally:
        torch.set_default_dtype(default)
    byte_tokenizer().save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)  # loaded, because naming the hooks needs to know its source
    return LanguageModel(model, tokenizer, name=str(folder), fingerprint="random-weights-of-seed-0")


def byte_tokenizer() -> Any:
    """Return a tokenizer with one token for each byte, after ``<pad>``, ``<eos>`` and ``<bos>``."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {token: index for index, token in enumerate(["<pad>", "<eos>", "<bos>"])}
    for byte in sorted(pre_tokenizers.ByteLevel.alphabet()):
        vocabulary[byte] = len(vocabulary)
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", bos_token="<bos>")


def random_sae(kind: str, d_in: int, d_sae: int, k: int, layer: int, seed: int, device: str) -> Any:
    """Return a SAELens SAE with random weights, of which about ``k`` latents are active at each token."""
    from sae_lens.saes.jumprelu_sae import JumpReLUSAE, JumpReLUSAEConfig
    from sae_lens.saes.sae import SAEMetadata
    from sae_lens.saes.topk_sae import TopKSAE, TopKSAEConfig

    common = {
        "d_in": d_in,
        "d_sae": d_sae,
        "device": device,
        "metadata": SAEMetadata(hook_name=f"blocks.{layer}.hook_resid_post"),
    }
    topk = kind == "topk"
    sae = TopKSAE(TopKSAEConfig(**common, k=k)) if topk else JumpReLUSAE(JumpReLUSAEConfig(**common))
    draw = torch.Generator(device).manual_seed(seed)
    decoder = torch.randn(d_sae, d_in, generator=draw, device=device)
    decoder = torch.nn.functional.normalize(decoder, dim=1)
    with torch.no_grad():
        sae.W_dec.copy_(decoder)
        sae.W_enc.copy_(decoder.T)
        sae.b_enc.zero_()
        sae.b_dec.zero_()
        if not topk:
            # Embeddings have unit variance here, and each block adds two outputs of a norm. This gives the spread of a
            # random direction, and with it the threshold that k latents pass.
            spread = (1 + 2 * (layer + 1)) ** 0.5
            sae.threshold.fill_(spread * float(torch.distributions.Normal(0, 1).icdf(torch.tensor(1 - k / d_sae))))
    return sae


def references(kind: str, number: int, width: int, shape: Shape, device: torch.device) -> list[str]:
    """Return the references of ``number`` random SAEs."""
    settings = f"kind={kind}&d_in={shape.model['hidden_size']}&d_sae={width}&k={shape.k}&layer={shape.layer}"
    return [f"python:{Path(__file__)}:random_sae?{settings}&device={device}&seed={seed}" for seed in range(number)]


def write_text(shape: Shape, path: Path) -> Path:
    """Write documents of random letters, more than enough for the evaluated sequences, and return ``path``."""
    rng = np.random.default_rng(0)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz     "))
    with path.open("w", encoding="utf-8") as file:
        for _ in range(2 * shape.sequences):
            text = "".join(rng.choice(letters, size=shape.context_length))
            file.write(json.dumps({"text": text}) + "\n")
    return path


def measure(shape: Shape, device: torch.device, dtype_name: str, progress: Progress) -> BenchmarkResult:
    """Measure tokens per second, the share of the floor, peak memory, and which operations take most time."""
    dtype = getattr(torch, dtype_name)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lm = random_lm(shape, device, dtype, folder)
        text = f"jsonl:{write_text(shape, folder / 'text.jsonl')}"
        batch = tokenize(load_documents(text), lm.tokenizer, shape.context_length, shape.sequences)
        floor = Floor(lm.model, shape.layer + 1, batch.tokens, batch=64 if device.type == "cuda" else 16)
        measurements = []
        with loading_with(lambda *_, **__: lm):
            for case, (kind, width, number) in enumerate(_cases(shape)):
                settings = {
                    "saes": references(kind, number, width, shape, device),
                    "model": name,
                    "text": text,
                    "sequences": shape.sequences,
                    "context_length": shape.context_length,
                    "dtype": dtype_name,
                    "device": str(device),
                }
                rows = _case(floor, settings, number, device, folder / f"out-{case}")
                progress.log(f"{kind}, {width} latents, {number} SAEs: {median(r['ours'] for r in rows):.2f} s")
                same = {"kind": kind, "d_sae": width, "saes": number, "tokens": batch.tokens.numel()}
                measurements += [same | row for row in rows]
            first = references(KINDS[0], 1, shape.widths[0], shape, device)
            profile = top_five(settings | {"saes": first}, device, folder / "profiled")
    settings = {"model": shape.model, "layer": shape.layer, "k": shape.k, "dtype": dtype_name, "profile": profile}
    return BenchmarkResult.now("gpu", settings, measurements, ratios(measurements), device=str(device))


def _cases(shape: Shape) -> Iterator[tuple[str, int, int]]:
    return ((kind, width, number) for kind in KINDS for width in shape.widths for number in shape.saes)


def _case(floor: Floor, settings: dict[str, Any], number: int, device: torch.device, out: Path) -> list[Measurement]:
    """Measure the floor and saebench alternately."""
    floor.warm_up()
    rows = []
    for repeat in range(REPEATS):
        bare = timed(lambda: floor.run(number), device)
        before = _reset_peak(device)
        tables: list[Any] = []
        ours = timed(lambda: tables.append(evaluate(settings, out / str(repeat))), device)  # noqa: B023 (called at once)
        table = tables[0]
        l0 = float(table[table["metric"] == "l0"]["value"].mean())
        rows.append(
            {"repeat": repeat, "floor": bare, "ours": ours, "l0": l0, "above_model": _peak_above(device, before)}
        )
    return rows


def _reset_peak(device: torch.device) -> int:
    if device.type != "cuda":
        return 0
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    return torch.cuda.memory_allocated()


def _peak_above(device: torch.device, before: int) -> int | None:
    return torch.cuda.max_memory_allocated() - before if device.type == "cuda" else None


def top_five(settings: dict[str, Any], device: torch.device, out: Path) -> list[dict[str, Any]]:
    """Return the five operations that take most time when one SAE is evaluated, with their shares of the time."""
    from torch.profiler import ProfilerActivity, profile

    cuda = device.type == "cuda"
    with profile(activities=[ProfilerActivity.CUDA if cuda else ProfilerActivity.CPU]) as profiled:
        evaluate(settings, out)
    events = profiled.key_averages()
    spent = {event.key: event.self_device_time_total if cuda else event.self_cpu_time_total for event in events}
    total = sum(spent.values())
    top = sorted(spent, key=lambda key: spent[key], reverse=True)[:5]
    return [{"operation": key, "share": round(spent[key] / total, 4)} for key in top]


def ratios(measurements: list[Measurement]) -> dict[str, float]:
    """Return the tokens of the text per second, the share of the floor, and the GB of memory above the model.

    The keys end in ``<kind>/<width>/<number of SAEs>``.
    """
    values: dict[str, float] = {}
    for case in dict.fromkeys((m["kind"], m["d_sae"], m["saes"]) for m in measurements):
        rows = [m for m in measurements if (m["kind"], m["d_sae"], m["saes"]) == case]
        key = "/".join(map(str, case))
        seconds = median(m["ours"] for m in rows)
        values[f"tokens_per_second/{key}"] = rows[0]["tokens"] / seconds
        values[f"share/{key}"] = median(m["floor"] for m in rows) / seconds
        if rows[0]["above_model"] is not None:
            values[f"above_model_gb/{key}"] = max(m["above_model"] for m in rows) / 1e9
    return values


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument(
        "--tiny", action="store_true", help="use a small model, to see that everything runs; the figures mean nothing"
    )
    parser.add_argument("--device", default="cuda", help="the device to measure on (default: %(default)s)")
    parser.add_argument(
        "--dtype", choices=["bfloat16", "float32"], default="bfloat16", help="the dtype (default: %(default)s)"
    )
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the result file (default: %(default)s)")
    options = parser.parse_args(arguments)
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        print(
            "This benchmark needs a CUDA GPU, but this machine has none; use --tiny --device cpu to try it out.",
            file=sys.stderr,
        )
        return 2
    if options.tiny and options.out.resolve() == RESULTS.resolve():
        parser.error("--tiny gives figures that are not worth keeping; name another folder with --out")
    try:
        result = measure(TINY if options.tiny else GEMMA_2_2B, device, options.dtype, ConsoleProgress())
    except (SaebenchError, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"wrote {result.write(options.out)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
