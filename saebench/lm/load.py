"""How a language model is loaded by its reference, onto a device and in a dtype."""

from __future__ import annotations

import hashlib
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from saebench.errors import ModelError, UsageError
from saebench.hub.client import commit_of
from saebench.lm.folder import check_folder, check_types, weight_types
from saebench.lm.foreign import loading
from saebench.lm.model import LanguageModel
from saebench.lm.reference import LMRef, parse_lm_ref

_FOREIGN = "transformers_modules"  # the package into which transformers copies code that comes with models
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float64": torch.float64}


def resolve_device(device: str) -> torch.device:
    """Return the device of that name; "auto" is CUDA if there is any. Raises UsageError if there is no such device."""
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
            f"--device {device!r} does not exist: this machine has {torch.cuda.device_count()} CUDA devices; use "
            "--device cpu."
        )
    if resolved.type not in ("cpu", "cuda"):
        raise UsageError(f"--device {device!r} is not supported; use auto, cpu, cuda or cuda:INDEX.")
    return resolved


def resolve_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """Return the dtype of that name; "auto" is bfloat16 if the hardware multiplies it natively, or else float32.

    A CPU without bfloat16 instructions emulates them, which is seven times slower than float32 (measured).

    Raises:
        UsageError: There is no such dtype.
    """
    if dtype == "auto":
        native = device.type == "cuda" or torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        return torch.bfloat16 if native else torch.float32
    if dtype not in DTYPES:
        raise UsageError(f"--dtype {dtype!r} is unknown; use auto, float32 or bfloat16.")
    return DTYPES[dtype]


def load_lm(
    ref: str | LMRef, *, device: torch.device, dtype: torch.dtype, trust_remote_code: bool = False
) -> LanguageModel:
    """Load a causal language model and its tokenizer.

    Args:
        ref: The reference of the model.
        device: The device to load it onto.
        dtype: The dtype of its weights.
        trust_remote_code: Whether Python code that comes with the model may run. Only the user can decide this.

    Raises:
        UsageError: The reference is wrong.
        AssetError: The asset is missing.
        ModelError: The model cannot be loaded, lacks weights or a tokenizer, or cannot be wrapped.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    lm_ref = parse_lm_ref(ref) if isinstance(ref, str) else ref
    source, kwargs = _source(lm_ref)
    if lm_ref.scheme == "path":
        check_folder(Path(source), str(lm_ref))
    # Left open, transformers would ask on the terminal whether to run code that comes with the model.
    kwargs["trust_remote_code"] = trust_remote_code
    with loading(str(lm_ref), trusted=trust_remote_code):
        model, report = AutoModelForCausalLM.from_pretrained(source, dtype=dtype, output_loading_info=True, **kwargs)
        types = weight_types(_folder(source, kwargs))
    if missing := sorted(report["missing_keys"]):  # transformers would use random weights for them
        raise ModelError(f"{lm_ref} lacks {len(missing)} weights of {type(model).__name__}, such as {missing[0]!r}.")
    check_types(types, model, str(lm_ref))
    with loading(f"The tokenizer of {lm_ref}", trusted=trust_remote_code):
        tokenizer = AutoTokenizer.from_pretrained(source, **kwargs)
        tokenizer("a b", add_special_tokens=False, verbose=False)
        if len(tokenizer) <= len(tokenizer.all_special_ids):
            raise ModelError(
                f"{lm_ref} has no tokenizer: there is nothing but special tokens in its vocabulary; copy the files of "
                "the tokenizer from the model that it was made from."
            )
    with loading(str(lm_ref), trusted=trust_remote_code):
        model = model.eval().requires_grad_(False).to(device)
        lm = LanguageModel(model, tokenizer, name=str(lm_ref), fingerprint=fingerprint(model, tokenizer))
    if lm_ref.scheme == "hf":
        lm.commit = commit_of(_folder(source, kwargs) / "config.json")
    return lm


def _folder(source: str, options: dict[str, Any]) -> Path:
    """Return the folder that a model was loaded from. That of a model of the hub lies in the hub's cache."""
    from transformers.utils import cached_file

    config = cached_file(source, "config.json", revision=options.get("revision"), local_files_only=True)
    return Path(config).parent


def _source(ref: LMRef) -> tuple[str, dict[str, Any]]:
    if ref.scheme == "asset":
        from saebench.data import assets

        return str(assets.path(ref.name)), {}
    if ref.scheme == "hf":
        return ref.name, {"revision": ref.revision} if ref.revision else {}
    return str(Path(ref.name)), {}


def fingerprint(model: Any, tokenizer: Any = None) -> str:
    """Return the sha256, in hex, of the configuration, of every weight as loaded, and of code that came with the model.

    It is the same on every machine and for every dtype of the files. It differs between the dtypes that the model is
    loaded in, because rounding to bfloat16 changes the weights. Tensors are hashed in parallel, and tied ones once. The
    tokenizer counts only if its code came with the model.
    """
    state = dict(sorted(model.state_dict().items()))
    distinct = {_place(tensor): tensor for tensor in state.values()}
    with ThreadPoolExecutor(max_workers=4) as pool:  # threads help, because hashing releases the interpreter's lock
        hashes = dict(zip(distinct, pool.map(_tensor_hash, distinct.values()), strict=True))
    digest = hashlib.sha256(json.dumps(_settings(model.config.to_dict()), sort_keys=True, default=str).encode())
    for name, tensor in state.items():
        digest.update(f"|{name}|{tuple(tensor.shape)}|{tensor.dtype}|{hashes[_place(tensor)]}".encode())
    for name, code in _own_code(model, tokenizer):
        digest.update(f"|{name}|{hashlib.sha256(code).hexdigest()}".encode())
    return digest.hexdigest()


def _own_code(*parts: Any) -> list[tuple[str, bytes]]:
    """Return the Python files that came with a model and run, each with its name in their folder."""
    packages = {type(part).__module__.rpartition(".")[0] for part in parts}
    packages = {package for package in packages if package.startswith(f"{_FOREIGN}.")}
    files = {
        name.removeprefix(package): Path(str(module.__file__))
        for package in packages
        for name, module in list(sys.modules.items())
        if name.startswith(f"{package}.") and getattr(module, "__file__", None)
    }
    return [(name, file.read_bytes()) for name, file in sorted(files.items())]


def _settings(config: dict[str, Any]) -> dict[str, Any]:
    """Return the configuration, with nested ones, without the entries that do not affect what the model computes."""
    volatile = {"_name_or_path", "transformers_version", "dtype", "torch_dtype", "_attn_implementation"}
    return {
        key: _settings(value) if isinstance(value, dict) else value
        for key, value in config.items()
        if key not in volatile
    }


def _place(tensor: Tensor) -> tuple[int, tuple[int, ...], tuple[int, ...], torch.dtype]:
    """Return what tied weights have in common: their place in memory, shape, strides and dtype."""
    return tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype


def _tensor_hash(tensor: Tensor) -> str:
    return hashlib.sha256(tensor.detach().reshape(-1).contiguous().cpu().view(torch.uint8).numpy().data).hexdigest()
