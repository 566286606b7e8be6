"""Loading a language model by reference, onto a device, in a dtype."""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from saebench.errors import ModelError, UsageError
from saebench.lm.model import LanguageModel
from saebench.lm.reference import LMRef, parse_lm_ref

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float64": torch.float64}


def resolve_device(device: str) -> torch.device:
    """``auto`` takes CUDA when there is one. Raises UsageError for a device that is not there."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except RuntimeError as error:
        raise UsageError(f"--device {device!r} is not a device; use auto, cpu, cuda or cuda:INDEX.") from error
    if resolved.type == "cuda" and (
        not torch.cuda.is_available() or (resolved.index or 0) >= torch.cuda.device_count()
    ):
        raise UsageError(
            f"--device {device!r}: this machine has {torch.cuda.device_count()} CUDA devices; use --device cpu."
        )
    if resolved.type not in ("cpu", "cuda"):
        raise UsageError(f"--device {device!r} is not supported; use auto, cpu, cuda or cuda:INDEX.")
    return resolved


def resolve_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """``auto``: bfloat16 where the hardware multiplies it natively, else float32.

    A CPU without bfloat16 instructions emulates them, which was measured seven times slower than float32.
    """
    if dtype == "auto":
        native = device.type == "cuda" or torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        return torch.bfloat16 if native else torch.float32
    if dtype not in DTYPES:
        raise UsageError(f"--dtype {dtype!r} is unknown; use auto, float32 or bfloat16.")
    return DTYPES[dtype]


def load_lm(ref: str | LMRef, *, device: torch.device, dtype: torch.dtype) -> LanguageModel:
    """Load a causal language model and its tokenizer. Raises ModelError with cause and mend."""
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoTokenizer

    lm_ref = parse_lm_ref(ref) if isinstance(ref, str) else ref
    source, kwargs = _source(lm_ref)
    try:
        model, report = AutoModelForCausalLM.from_pretrained(source, dtype=dtype, output_loading_info=True, **kwargs)
        tokenizer = AutoTokenizer.from_pretrained(source, **kwargs)
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
        cause = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ModelError(f"{lm_ref} could not be loaded: {cause[:300]}") from error
    if missing := sorted(report["missing_keys"]):  # transformers would go on with random weights there
        raise ModelError(f"{lm_ref} lacks {len(missing)} weights of {type(model).__name__}, such as {missing[0]!r}.")
    model = model.eval().requires_grad_(False).to(device)
    return LanguageModel(model, tokenizer, name=str(lm_ref), fingerprint=fingerprint(model))


def _source(ref: LMRef) -> tuple[str, dict[str, Any]]:
    if ref.scheme == "asset":
        from saebench.data import assets

        return str(assets.path(ref.name)), {}
    if ref.scheme == "hf":
        return ref.name, {"revision": ref.revision} if ref.revision else {}
    return str(Path(ref.name)), {}


def fingerprint(model: Any) -> str:
    """Hex digest of configuration and of every weight as loaded: what the model computes with, all of it.

    The same on every machine, and whatever the dtype of the files, but not across the dtypes loaded into: rounding
    to bfloat16 makes other weights. Tensors are hashed side by side, tied ones once.
    """
    state = dict(sorted(model.state_dict().items()))
    distinct = {_place(tensor): tensor for tensor in state.values()}
    with ThreadPoolExecutor(max_workers=4) as pool:  # hashing releases the interpreter
        hashes = dict(zip(distinct, pool.map(_tensor_hash, distinct.values()), strict=True))
    digest = hashlib.sha256(json.dumps(_settings(model.config.to_dict()), sort_keys=True, default=str).encode())
    for name, tensor in state.items():
        digest.update(f"|{name}|{tuple(tensor.shape)}|{tensor.dtype}|{hashes[_place(tensor)]}".encode())
    return digest.hexdigest()


def _settings(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration, and those nested in it, without what says nothing about the function computed."""
    volatile = {"_name_or_path", "transformers_version", "dtype", "torch_dtype", "_attn_implementation"}
    return {
        key: _settings(value) if isinstance(value, dict) else value
        for key, value in config.items()
        if key not in volatile
    }


def _place(tensor: Tensor) -> tuple[int, tuple[int, ...], tuple[int, ...], torch.dtype]:
    return tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype


def _tensor_hash(tensor: Tensor) -> str:
    return hashlib.sha256(tensor.detach().reshape(-1).contiguous().cpu().view(torch.uint8).numpy().data).hexdigest()
