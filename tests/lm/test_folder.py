"""Folders of models from strangers: each fault is one sentence before or while a library reads it."""

from __future__ import annotations

import copy
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import transformers

from saebench.data.documents import Documents
from saebench.data.tokens import tokenize
from saebench.errors import DataError, ModelError
from saebench.lm.foreign import loading
from saebench.lm.load import load_lm
from saebench.lm.model import LanguageModel
from tests.conftest import FAMILIES, VOCABULARY, build_config, build_model, build_tokenizer
from tests.lm.conftest import CPU


def load(folder: Path) -> LanguageModel:
    return load_lm(str(folder), device=CPU, dtype=torch.float32)


@pytest.fixture
def folder(tiny_llama_dir: Path, tmp_path: Path) -> Path:
    """A copy of a good model's folder."""
    return Path(shutil.copytree(tiny_llama_dir, tmp_path / "lm"))


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


# ---------------------------------------------------------------- tokenizers


@pytest.mark.parametrize("family", FAMILIES)
def test_a_folder_without_tokenizer_says_so(family: str, tmp_path: Path):
    """transformers would make an empty one for some families."""
    build_model(family).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="has no tokenizer: the folder holds no"):
        load(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"has no tokenizer|The tokenizer of .* could not be loaded"):
        load(tmp_path)


def without(tokenizer: transformers.PreTrainedTokenizerFast, *names: str) -> transformers.PreTrainedTokenizerFast:
    """A tokenizer that lacks special tokens."""
    kept = {name: getattr(tokenizer, name) for name in ("bos_token", "eos_token", "pad_token", "unk_token")}
    backend = copy.deepcopy(tokenizer.backend_tokenizer)
    backend.post_processor = None  # type: ignore[assignment]
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, **{name: token for name, token in kept.items() if name not in names}
    )


@pytest.mark.parametrize("missing", [(), ("bos_token",), ("eos_token",), ("pad_token",), ("bos_token", "eos_token")])
def test_the_tokenizer_keeps_the_special_tokens_that_it_has(missing: tuple[str, ...], tmp_path: Path):
    """The bridge would give it others, of which the model may know nothing."""
    build_model("gpt2").save_pretrained(tmp_path)
    without(build_tokenizer(), *missing).save_pretrained(tmp_path)
    alone = transformers.AutoTokenizer.from_pretrained(tmp_path)
    used = load(tmp_path).tokenizer
    for name in ("bos_token_id", "eos_token_id", "pad_token_id", "unk_token_id", "all_special_ids"):
        assert getattr(used, name) == getattr(alone, name), name
    assert len(used) == len(alone)
    for name in missing:
        assert getattr(used, name) is None


def test_sequences_of_a_tokenizer_with_neither_bos_nor_eos_are_refused(tmp_path: Path):
    build_model("gpt2").save_pretrained(tmp_path)
    without(build_tokenizer(), "bos_token", "eos_token").save_pretrained(tmp_path)
    lm = load(tmp_path)
    with pytest.raises(DataError, match="neither a BOS nor an EOS token"):
        tokenize(Documents("text", ["some words " * 20] * 9), lm.tokenizer, 8)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_token_beyond_the_embedding_is_an_error_of_the_model(family: str, request: pytest.FixtureRequest):
    lm = load(request.getfixturevalue(f"tiny_{family}_dir"))
    good = torch.arange(4, 16)[None]
    site = "blocks.1.hook_resid_post"
    for token in (VOCABULARY, 10**6, -1):
        bad = good.clone()
        bad[0, 3] = token
        passes: list[Callable[[], object]] = [
            lambda bad=bad: lm.check_tokens(bad),
            lambda bad=bad: lm.full(bad),
            lambda bad=bad: lm.prefix(bad, [site]),
            lambda bad=bad: lm.suffix(bad, site, torch.zeros(*bad.shape, lm.d_model)),
            lambda bad=bad: lm.model(input_ids=bad),
        ]
        for work in passes:
            with pytest.raises(ModelError, match=rf"gives the token {token} .* only for the tokens 0 to 127"):
                work()
    lm.full(good)
    lm.check_tokens(torch.empty(0, dtype=torch.long))


# ---------------------------------------------------------------- weights


@pytest.mark.parametrize(
    ("dtype", "what"),
    [
        (torch.int8, "whole numbers"),
        (torch.uint8, "whole numbers"),
        (torch.int32, "whole numbers"),
        (torch.int64, "whole numbers"),
        (torch.bool, "truth values"),
        (torch.complex64, "complex numbers"),
    ],
)
def test_weights_that_are_no_weights_are_not_scored(dtype: torch.dtype, what: str, folder: Path):
    tensors = safetensors.torch.load_file(folder / "model.safetensors")
    name = "model.layers.1.mlp.up_proj.weight"
    tensors[name] = (tensors[name] * 50).to(dtype)
    safetensors.torch.save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=rf"has weights that are {what}: '{name}' has the type"):
        load(folder)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16, torch.float8_e4m3fn])
def test_weights_of_every_floating_type_are_read(dtype: torch.dtype, folder: Path):
    tensors = safetensors.torch.load_file(folder / "model.safetensors")
    cast = {name: tensor.to(dtype) for name, tensor in tensors.items()}
    safetensors.torch.save_file(cast, folder / "model.safetensors", metadata={"format": "pt"})
    expected = cast["model.layers.1.mlp.up_proj.weight"].float()
    assert torch.equal(load(folder).model.model.layers[1].mlp.up_proj.weight, expected)


def test_a_mask_of_truth_values_beside_the_weights_does_no_harm(folder: Path):
    """Old files of GPT-2 hold masks and counts, which are no parameters."""
    tensors = safetensors.torch.load_file(folder / "model.safetensors")
    tensors |= {"model.layers.0.attn.bias": torch.ones(4, 4, dtype=torch.bool), "steps": torch.tensor(3)}
    safetensors.torch.save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    load(folder)


def test_weights_in_several_files(folder: Path, tmp_path: Path):
    model = build_model("llama")
    model.save_pretrained(tmp_path / "parts", max_shard_size="20KB")
    build_tokenizer().save_pretrained(tmp_path / "parts")
    assert (tmp_path / "parts" / "model.safetensors.index.json").exists()
    assert load(tmp_path / "parts").fingerprint == load(folder).fingerprint
    next((tmp_path / "parts").glob("model-00002*")).unlink()
    with pytest.raises(ModelError, match=r"the file 'model-00002.*' is missing, which model\.safetensors\.index"):
        load(tmp_path / "parts")


def test_a_good_pickle_gives_the_same_weights(folder: Path):
    expected = load(folder).fingerprint
    torch.save(safetensors.torch.load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert load(folder).fingerprint == expected


# ---------------------------------------------------------------- files and settings


def test_too_many_layers_are_refused_before_they_are_made(folder: Path):
    change(folder / "config.json", num_hidden_layers=10**9)
    with pytest.raises(ModelError, match="asks for 1000000000 layers, which no model has"):
        load(folder)


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation"])
def test_a_program_of_the_hub_for_attention_is_not_fetched(key: str, folder: Path):
    change(folder / "config.json", **{key: "stranger/kernel"})
    with pytest.raises(ModelError, match="asks for the program 'stranger/kernel' of the hub"):
        load(folder)


@pytest.mark.parametrize("file", ["tokenizer_config.json", "chat_template.jinja", "adapter_config.json", "x.bin"])
def test_pipes_are_refused_although_libraries_may_pass_them_over(file: str, folder: Path):
    (folder / file).unlink(missing_ok=True)
    os.mkfifo(folder / file)
    with pytest.raises(ModelError, match=rf"{file} is a named pipe, not a regular file"):
        load(folder)


def test_a_link_that_leads_nowhere_matters_only_if_it_is_read(folder: Path):
    (folder / "README.md").symlink_to("nowhere")
    load(folder)
    (folder / "generation_config.json").unlink()
    (folder / "generation_config.json").symlink_to("generation_config.json")
    with pytest.raises(ModelError, match=r"generation_config\.json cannot be read: Too many levels of symbolic links"):
        load(folder)


# ---------------------------------------------------------------- the barrier


class Panic(BaseException):
    """Like the panic of a library in Rust."""


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (TypeError("a\n  b."), r"X could not be loaded: TypeError: a b\. Get a complete copy"),
        (Panic("index out of bounds"), "X could not be loaded: Panic: index out of bounds"),
        (KeyError(), r"X could not be loaded: KeyError\. Get a complete copy"),
        (
            EOFError(),
            r"X could not be loaded: its files are damaged \(one of them ends too early\); get a complete copy",
        ),
        (RuntimeError("std::bad_alloc"), r"X could not be loaded: Out of memory\. .*--dtype bfloat16"),
        (ValueError("half \ud800"), r"X could not be loaded: ValueError: half \\ud800"),
    ],
)
def test_whatever_a_library_raises_is_one_sentence(error: BaseException, message: str):
    with pytest.raises(ModelError, match=message) as caught, loading("X"):
        raise error
    str(caught.value).encode()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), DataError("known"), SystemExit(3)])
def test_what_is_not_a_librarys_fault_passes(error: BaseException):
    with pytest.raises(type(error)), loading("X"):
        raise error


def test_code_that_may_run_may_also_end_the_program():
    with pytest.raises(ModelError, match="its code ended the program"), loading("X", trusted=True):
        raise SystemExit(3)


def test_a_model_without_blocks_is_refused(folder: Path):
    config = build_config("llama")
    config.num_hidden_layers = 0
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    with pytest.raises(ModelError, match="cannot be found, so saebench cannot splice"):
        load(folder)
