"""Devices, dtypes, loading from a folder, and the fingerprint of what was loaded."""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
import transformers

from saebench.errors import ModelError, UsageError
from saebench.lm.load import fingerprint, load_lm, resolve_device, resolve_dtype
from tests.conftest import FAMILIES, build_model
from tests.lm.conftest import CPU, Pair

# ---------------------------------------------------------------- devices and dtypes


def test_auto_device_is_one_that_is_there():
    assert resolve_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert resolve_device("cpu") == CPU


@pytest.mark.parametrize("name", ["", "gpu", "cuda:", "cuda:x", "cuda:-1", "0", "CPU:a"])
def test_no_device(name: str):
    with pytest.raises(UsageError, match="use auto, cpu, cuda or cuda:INDEX"):
        resolve_device(name)


@pytest.mark.parametrize("name", ["mps", "meta", "xpu:0"])
def test_other_kinds_of_device(name: str):
    with pytest.raises(UsageError, match="is not supported"):
        resolve_device(name)


@pytest.mark.parametrize(("name", "present"), [("cuda", 0), ("cuda:0", 0), ("cuda:2", 2)])
def test_a_gpu_that_is_not_there(name: str, present: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: present > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: present)
    with pytest.raises(UsageError, match=f"this machine has {present} CUDA devices"):
        resolve_device(name)


def test_a_gpu_that_is_there(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("auto") == torch.device("cuda")
    assert resolve_device("cuda:1") == torch.device("cuda:1")


@pytest.mark.parametrize("name", ["float32", "bfloat16", "float64"])
def test_dtypes(name: str):
    assert resolve_dtype(name, CPU) == getattr(torch, name)


@pytest.mark.parametrize("name", ["", "fp32", "float16", "int8", "torch.float32"])
def test_unknown_dtypes(name: str):
    with pytest.raises(UsageError, match="use auto, float32 or bfloat16"):
        resolve_dtype(name, CPU)


def test_auto_dtype():
    assert resolve_dtype("auto", torch.device("cuda")) == torch.bfloat16
    assert resolve_dtype("auto", CPU) in (torch.float32, torch.bfloat16)


# ---------------------------------------------------------------- loading


def test_loads_in_the_dtype_asked_for(tiny_llama_dir: Path):
    for dtype in (torch.float32, torch.bfloat16, torch.float64):
        lm = load_lm(str(tiny_llama_dir), device=CPU, dtype=dtype)
        assert lm.dtype == dtype
        assert not any(module.training for module in lm.model.modules())
        assert not any(parameter.requires_grad for parameter in lm.model.parameters())
        tokens = torch.arange(4, 20)[None]
        assert lm.full(tokens).dtype == dtype
        assert lm.name == str(tiny_llama_dir)


def edited(folder: Path, target: Path, edit: object = None) -> Path:
    """A copy of a model folder, its tensors passed through ``edit``."""
    shutil.copytree(folder, target)
    if callable(edit):
        tensors = safetensors.torch.load_file(target / "model.safetensors")
        safetensors.torch.save_file(edit(tensors), target / "model.safetensors", metadata={"format": "pt"})
    return target


def test_missing_weights_are_an_error_and_not_random_numbers(tiny_llama_dir: Path, tmp_path: Path):
    def drop(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {name: tensor for name, tensor in tensors.items() if "layers.1.mlp.up_proj" not in name}

    folder = edited(tiny_llama_dir, tmp_path / "lm", drop)
    with pytest.raises(ModelError, match=r"lacks 1 weights.*layers\.1\.mlp\.up_proj"):
        load_lm(str(folder), device=CPU, dtype=torch.float32)


def test_weights_of_another_size(tiny_llama_dir: Path, tmp_path: Path):
    def cut(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        name = next(name for name in tensors if "layers.1.mlp.up_proj" in name)
        return tensors | {name: tensors[name][:-1].contiguous()}

    with pytest.raises(ModelError, match="could not be loaded"):
        load_lm(str(edited(tiny_llama_dir, tmp_path / "lm", cut)), device=CPU, dtype=torch.float32)


@pytest.mark.parametrize("keep", [0, 4, 1000, 20_000])
def test_truncated_weights(tiny_llama_dir: Path, tmp_path: Path, keep: int):
    folder = edited(tiny_llama_dir, tmp_path / "lm")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:keep])
    with pytest.raises(ModelError, match="could not be loaded"):
        load_lm(str(folder), device=CPU, dtype=torch.float32)


@pytest.mark.parametrize(
    ("missing", "message"),
    [("model.safetensors", "has no weights"), ("tokenizer.json", "The tokenizer of .* could not be loaded")],
)
def test_missing_files(tiny_llama_dir: Path, tmp_path: Path, missing: str, message: str):
    folder = edited(tiny_llama_dir, tmp_path / "lm")
    (folder / missing).unlink()
    with pytest.raises(ModelError, match=message):
        load_lm(str(folder), device=CPU, dtype=torch.float32)


@pytest.mark.parametrize("config", ["", "[]", "{", '{"model_type": "no-such-model"}', '{"model_type": "bert"}'])
def test_damaged_or_unsuitable_config(tiny_llama_dir: Path, tmp_path: Path, config: str):
    folder = edited(tiny_llama_dir, tmp_path / "lm")
    (folder / "config.json").write_text(config)
    with pytest.raises(ModelError):
        load_lm(str(folder), device=CPU, dtype=torch.float32)


def test_a_hub_model_without_network_says_so():
    with pytest.raises(ModelError, match=r"hf:no-such-org/no-such-model could not be loaded: \w"):
        load_lm("hf:no-such-org/no-such-model", device=CPU, dtype=torch.float32)


# ---------------------------------------------------------------- fingerprints


def plain(folder: Path, dtype: torch.dtype = torch.float32, **kwargs: str) -> transformers.PreTrainedModel:
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, **kwargs)


def test_fingerprint_is_that_of_the_unwrapped_model(pair: Pair):
    assert pair.lm.fingerprint == fingerprint(pair.plain)  # whatever the implementation of attention
    assert len(pair.lm.fingerprint) == 64


def test_fingerprints_of_different_models_differ():
    assert len({fingerprint(build_model(family)) for family in FAMILIES}) == len(FAMILIES)


def test_fingerprint_is_the_same_in_another_process(tiny_gemma3_dir: Path):
    code = (
        "import sys, transformers; from saebench.lm.load import fingerprint\n"
        "print(fingerprint(transformers.AutoModelForCausalLM.from_pretrained(sys.argv[1])))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code, str(tiny_gemma3_dir)], capture_output=True, text=True, check=True, timeout=120
    )
    assert out.stdout.strip() == fingerprint(plain(tiny_gemma3_dir))


def test_fingerprint_does_not_depend_on_where_the_files_lie(tiny_llama_dir: Path, tmp_path: Path):
    assert fingerprint(plain(edited(tiny_llama_dir, tmp_path / "elsewhere"))) == fingerprint(plain(tiny_llama_dir))


def test_fingerprint_does_not_depend_on_the_dtype_of_storage(tmp_path: Path):
    """The same values, stored in bfloat16 and in float32."""
    model = build_model("llama").to(torch.bfloat16)
    model.save_pretrained(tmp_path / "narrow")
    model.to(torch.float32).save_pretrained(tmp_path / "wide")
    stored = [next(iter(safetensors.torch.load_file(tmp_path / kind / "model.safetensors").values())).dtype
              for kind in ("narrow", "wide")]  # fmt: skip
    assert stored == [torch.bfloat16, torch.float32]
    for dtype in (torch.float32, torch.bfloat16):
        assert fingerprint(plain(tmp_path / "narrow", dtype)) == fingerprint(plain(tmp_path / "wide", dtype))


def test_fingerprint_depends_on_the_dtype_loaded_into(tiny_llama_dir: Path):
    assert fingerprint(plain(tiny_llama_dir, torch.bfloat16)) != fingerprint(plain(tiny_llama_dir, torch.float32))


@pytest.mark.parametrize("row", [0, 1, 63, 127])
def test_fingerprint_sees_the_last_bit_of_any_single_weight(row: int):
    model = build_model("llama")
    before = fingerprint(model)
    weight = model.get_input_embeddings().weight
    original = weight[row, 17].clone()
    with torch.no_grad():
        weight[row, 17] = torch.nextafter(original, torch.tensor(torch.inf))
        assert fingerprint(model) != before
        weight[row, 17] = original
    assert fingerprint(model) == before


def test_fingerprint_sees_every_tensor():
    model = build_model("gemma3")
    before = fingerprint(model)
    for name, parameter in model.named_parameters():
        changed = copy.deepcopy(model)
        with torch.no_grad():
            changed.get_parameter(name).view(-1)[-1] += 1.0
        assert fingerprint(changed) != before, (name, parameter.shape)


def test_fingerprint_sees_two_tensors_that_change_places():
    model = build_model("llama")
    swapped = copy.deepcopy(model)
    first, second = swapped.model.layers[0], swapped.model.layers[1]
    first.mlp, second.mlp = second.mlp, first.mlp
    assert fingerprint(swapped) != fingerprint(model)


def test_fingerprint_sees_the_configuration(tiny_gemma3_dir: Path, tmp_path: Path):
    """The sliding window is not a weight, and changes the numbers."""
    folder = edited(tiny_gemma3_dir, tmp_path / "lm")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"sliding_window": 7}))
    assert fingerprint(plain(folder)) != fingerprint(plain(tiny_gemma3_dir))


def test_fingerprint_of_tied_and_equal_untied_weights_has_one_hash_per_name():
    """Views that share memory but differ in shape are told apart; equal copies hash alike."""
    model = build_model("llama")
    assert model.lm_head.weight.data_ptr() == model.get_input_embeddings().weight.data_ptr()
    before = fingerprint(model)
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.clone(), requires_grad=False)
    assert fingerprint(model) == before


# ---------------------------------------------------------------- code of strangers


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_code_in_a_model_folder_never_runs_whatever_the_terminal_answers(
    file: str, tiny_llama_dir: Path, tmp_path: Path
):
    """A folder that names code of its own makes transformers ask on the terminal, and "y" would run it."""
    folder, marker = tmp_path / "model", tmp_path / "executed"
    shutil.copytree(tiny_llama_dir, folder)
    config = json.loads((folder / file).read_text())
    if file == "config.json":
        config |= {
            "model_type": "foreign",
            "auto_map": {"AutoConfig": "foreign.C", "AutoModelForCausalLM": "foreign.M"},
        }
    else:
        config |= {"tokenizer_class": "Foreign", "auto_map": {"AutoTokenizer": ["foreign.T", "foreign.T"]}}
    (folder / file).write_text(json.dumps(config))
    (folder / "foreign.py").write_text(
        f"open({str(marker)!r}, 'w').close()\nclass C: ...\nclass M: ...\nclass T: ...\n"
    )
    code = (
        "import torch\nfrom saebench.errors import ModelError\nfrom saebench.lm.load import load_lm\n"
        f"try:\n    load_lm({str(folder)!r}, device=torch.device('cpu'), dtype=torch.float32)\n"
        "except ModelError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], input="y\n" * 9, capture_output=True, text=True, check=True)
    assert not marker.exists()
    assert "[y/N]" not in done.stdout + done.stderr
    if file == "config.json":
        assert "which saebench does not run unasked" in done.stdout
        assert "read that code and give --trust-remote-code" in done.stdout


def _with_code(folder: Path, scale: float) -> Path:
    """Let a folder of a Llama bring code in two files: one writes a file when it runs, the other holds ``scale``."""
    (folder / "modeling_foreign.py").write_text(
        f"open({str(folder / 'executed')!r}, 'w').close()\n"
        "from transformers import LlamaForCausalLM\nfrom .part import SCALE\n"
        "class Foreign(LlamaForCausalLM):\n"
        "    def get_input_embeddings(self):\n"
        "        return super().get_input_embeddings()\n"
    )
    (folder / "part.py").write_text(f"SCALE = {scale}\n")
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoModelForCausalLM": "modeling_foreign.Foreign"}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_code_in_a_model_folder_runs_when_the_user_says_so_and_counts_for_the_fingerprint(
    tiny_llama_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(sys, "path", [*sys.path])  # transformers adds the folder of the modules
    folder = tmp_path / "model"
    shutil.copytree(tiny_llama_dir, folder)

    def load() -> str:
        return load_lm(str(folder), device=torch.device("cpu"), dtype=torch.float32, trust_remote_code=True).fingerprint

    without = load()
    assert without == load_lm(str(folder), device=torch.device("cpu"), dtype=torch.float32).fingerprint
    _with_code(folder, 1.0)
    assert not (folder / "executed").exists()
    first = load()
    assert (folder / "executed").exists()
    assert load() == first
    _with_code(folder, 2.0)
    assert len({without, first, load()}) == 3


def test_code_in_a_model_folder_that_fails_is_an_error_of_the_model(
    tiny_llama_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(sys, "path", [*sys.path])
    folder = tmp_path / "model"
    shutil.copytree(tiny_llama_dir, folder)
    _with_code(folder, 1.0)
    for code, message in (("raise TypeError('no')", "no"), ("import sys\nsys.exit(5)", "its code ended the program")):
        (folder / "modeling_foreign.py").write_text(code)
        with pytest.raises(ModelError, match=f"could not be loaded: .*{message}"):
            load_lm(str(folder), device=torch.device("cpu"), dtype=torch.float32, trust_remote_code=True)
