"""Folders of language models that are damaged, do not fit together, or bring code along."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.hostile.case import EXECUTED, Case, Surroundings

REFUSED = frozenset({2})
SCORED = frozenset({0})
CONFIG, WEIGHTS, TOKENIZER = "config.json", "model.safetensors", "tokenizer.json"
TOKENIZER_CONFIG, GENERATION = "tokenizer_config.json", "generation_config.json"
INDEX, PICKLED = "model.safetensors.index.json", "pytorch_model.bin"

Edit = Callable[[Path], object]


def cases() -> list[Case]:
    """Return the cases. Each is a copy of the tiny model's folder with one thing changed."""
    return [*_configs(), *_weights(), *_pickles(), *_tokenizers(), *_code(), *_files()]


def _case(
    name: str,
    edit: Edit,
    *says: str,
    codes: frozenset[int] = REFUSED,
    text: str | None = None,
) -> Case:
    """Return the case of a model folder that ``edit`` changes.

    Args:
        name: The name of the case.
        edit: Is called with the folder, a copy of the tiny model's.
        *says: Texts of which the output must hold one.
        codes: The exit codes that are right.
        text: Documents to evaluate on, instead of the good text.
    """

    def write(folder: Path, around: Surroundings) -> Sequence[str]:
        model = folder / "model"
        shutil.copytree(around.model, model)
        edit(model)
        source = around.text
        if text is not None:
            source = folder / "text.jsonl"
            lines = (json.dumps({"text": f"{number} {text}" * 20}) for number in range(60))
            source.write_text("\n".join(lines), "utf-8")
        options = ["--tasks", "core", "--preset", "smoke", "--limit", "4", "--device", "cpu", "--dtype", "float32"]
        inputs = ["--model", str(model), "--text", f"jsonl:{source}", "--sae", "baseline:neurons"]
        return ["run", *options, *inputs, "--cache-budget", "0", "--out", str(folder / "out")]

    return Case(name, "models", write, says, codes, seconds=60)


# ---------------------------------------------------------------- edits


def _set(file: str, **values: Any) -> Edit:
    """Set fields of a JSON file."""
    return lambda folder: _change_json(folder / file, lambda content: content | values)


def _drop(file: str, *names: str) -> Edit:
    """Remove fields of a JSON file."""
    return lambda folder: _change_json(
        folder / file, lambda content: {name: value for name, value in content.items() if name not in names}
    )


def _change_json(path: Path, change: Callable[[Any], Any]) -> None:
    path.write_text(json.dumps(change(json.loads(path.read_text("utf-8")))), "utf-8")


def _write(file: str, content: bytes | str) -> Edit:
    data = content.encode() if isinstance(content, str) else content
    return lambda folder: (folder / file).write_bytes(data)


def _remove(*files: str) -> Edit:
    return lambda folder: [(folder / file).unlink(missing_ok=True) for file in files]


def _cut(file: str, keep: int) -> Edit:
    return lambda folder: (folder / file).write_bytes((folder / file).read_bytes()[:keep])


def _replace(file: str, make: Callable[[Path], object]) -> Edit:
    """Put something else in the place of a file."""

    def edit(folder: Path) -> None:
        (folder / file).unlink(missing_ok=True)
        make(folder / file)

    return edit


def _all(*edits: Edit) -> Edit:
    return lambda folder: [edit(folder) for edit in edits]


def _tensors(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Edit:
    """Change the weights."""

    def edit(folder: Path) -> None:
        from safetensors.torch import load_file, save_file

        save_file(change(load_file(folder / WEIGHTS)), folder / WEIGHTS, metadata={"format": "pt"})

    return edit


def _cast(name: str) -> Edit:
    """Cast every weight to a type of torch."""
    import torch

    dtype = getattr(torch, name)
    return _tensors(lambda tensors: {key: (tensor * 9).to(dtype) for key, tensor in tensors.items()})


def _header(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Edit:
    """Change the header of the weights, and nothing else."""

    def edit(folder: Path) -> None:
        data = (folder / WEIGHTS).read_bytes()
        end = 8 + struct.unpack("<Q", data[:8])[0]
        header = json.dumps(change(json.loads(data[8:end]))).encode()
        (folder / WEIGHTS).write_bytes(struct.pack("<Q", len(header)) + header + data[end:])

    return edit


def _of_first(**values: Any) -> Edit:
    """Set fields of the first tensor in the header."""

    def change(header: dict[str, Any]) -> dict[str, Any]:
        name = next(name for name in header if name != "__metadata__")
        return header | {name: header[name] | values}

    return _header(change)


def _foreign(name: str) -> Edit:
    """Write a module that leaves a mark when it is run."""

    def edit(folder: Path) -> None:
        mark = folder.parent / EXECUTED
        (folder / f"{name}.py").write_text(
            f"open({str(mark)!r}, 'w').close()\nclass C: ...\nclass M: ...\nclass T: ...\n", "utf-8"
        )

    return edit


class _Marker:
    """A pickle that leaves a mark when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self.path), "w")


def _pickled(protocol: int = 2) -> Edit:
    return lambda folder: (folder / PICKLED).write_bytes(pickle.dumps(_Marker(folder.parent / EXECUTED), protocol))


def _saved_by_torch(make: Callable[[Path, dict[str, Any]], Any]) -> Edit:
    """Save what ``make`` returns for the folder and its weights by torch, instead of the weights."""

    def edit(folder: Path) -> None:
        import torch
        from safetensors.torch import load_file

        torch.save(make(folder, load_file(folder / WEIGHTS)), folder / PICKLED)
        (folder / WEIGHTS).unlink()

    return edit


# ---------------------------------------------------------------- cases


def _configs() -> list[Case]:
    of_wrong_type: list[tuple[str, dict[str, Any]]] = [
        ("hidden_size is a text", {"hidden_size": "32"}),
        ("hidden_size is negative", {"hidden_size": -32}),
        ("hidden_size is zero", {"hidden_size": 0}),
        ("hidden_size is huge", {"hidden_size": 10**9}),
        ("hidden_size is null", {"hidden_size": None}),
        ("hidden_size is a list", {"hidden_size": [32]}),
        ("hidden_size is a fraction", {"hidden_size": 32.5}),
        ("layers are a text", {"num_hidden_layers": "three"}),
        ("layers are huge", {"num_hidden_layers": 10**9}),
        ("layers are negative", {"num_hidden_layers": -1}),
        ("layers are none", {"num_hidden_layers": 0}),
        ("layers are more than there are weights for", {"num_hidden_layers": 7}),
        ("heads are huge", {"head_dim": 10**9}),
        ("positions are huge", {"max_position_embeddings": 10**15}),
        ("heads are zero", {"num_attention_heads": 0}),
        ("heads do not divide the width", {"num_attention_heads": 5}),
        ("vocabulary is huge", {"vocab_size": 10**12}),
        ("vocabulary is a text", {"vocab_size": "many"}),
        ("vocabulary is smaller than the weights", {"vocab_size": 50}),
        ("positions are a text", {"max_position_embeddings": "64"}),
        ("positions are none", {"max_position_embeddings": 0}),
        ("unknown activation", {"hidden_act": "no-such-activation"}),
        ("activation is a number", {"hidden_act": 3}),
        ("unknown dtype", {"dtype": "float7"}),
        ("norm's epsilon is a text", {"rms_norm_eps": "tiny"}),
        ("rope is a list", {"rope_parameters": [1]}),
        ("architectures are a number", {"architectures": 3}),
        ("architectures name another", {"architectures": ["NoSuchModel"]}),
        ("model type is unknown", {"model_type": "no-such-model"}),
        ("model type is a list", {"model_type": ["llama"]}),
        ("model type is no language model", {"model_type": "vit"}),
        ("quantised by an unknown method", {"quantization_config": {"quant_method": "no-such-method"}}),
        ("quantisation is a number", {"quantization_config": 4}),
        ("attention by a kernel of the hub", {"attn_implementation": "stranger/kernel"}),
        ("attention by a kernel, as transformers keeps it", {"_attn_implementation": "stranger/kernel"}),
        ("weights elsewhere", {"transformers_weights": "../elsewhere.safetensors"}),
        ("key of a method", {"to_dict": "x", "from_pretrained": 1}),
    ]
    documents: list[tuple[str, bytes | str]] = [
        ("empty", b""),
        ("a list", "[]"),
        ("a number", "3"),
        ("null", "null"),
        ("cut", '{"model_type": "llama", '),
        ("not UTF-8", b'{"model_type": "\xff"}'),
        ("deep", "[" * 100_000),
        ("a number of 5000 digits", '{"model_type": "llama", "hidden_size": ' + "9" * 5000 + "}"),
        ("infinite", '{"model_type": "llama", "hidden_size": Infinity}'),
        ("half a surrogate pair", '{"model_type": "\\ud800"}'),
        ("control characters", '{"model_type": "\\u001b[31mred\\u0007"}'),
        ("huge", b" " * 2**25),
    ]
    odd = frozenset({0, 1, 2})  # whatever transformers makes of it
    lenient = {
        "positions are none",
        "key of a method",
        "architectures name another",
        "quantised by an unknown method",
        "positions are huge",
    }
    return [
        *(
            _case(f"config: {name}", _set(CONFIG, **values), codes=odd if name in lenient else REFUSED)
            for name, values in of_wrong_type
        ),
        *(_case(f"config that is {name}", _write(CONFIG, content)) for name, content in documents),
        _case("config without a model type", _drop(CONFIG, "model_type")),
        _case("generation config of wrong types", _set(GENERATION, eos_token_id="x", max_length=[1]), codes=odd),
        _case("generation config that is damaged", _write(GENERATION, b"\xff{"), codes=odd),
    ]


def _weights() -> list[Case]:
    named = "model"

    def without(part: str) -> Edit:
        return _tensors(lambda tensors: {name: t for name, t in tensors.items() if part not in name})

    def index(content: Any) -> Edit:
        return _all(_remove(WEIGHTS), _write(INDEX, json.dumps(content)))

    return [
        _case("no weights", _remove(WEIGHTS), "no weights"),
        *(_case(f"weights of {keep} bytes", _cut(WEIGHTS, keep), named) for keep in (0, 4, 8, 1000, 20_000)),
        _case("weights that are text", _write(WEIGHTS, "version https://git-lfs.github.com/spec/v1\noid x\n"), "LFS"),
        _case("a header of 2^62 bytes", _write(WEIGHTS, struct.pack("<Q", 2**62) + b"{}")),
        _case("a header that is no JSON", _write(WEIGHTS, struct.pack("<Q", 9) + b"not json!")),
        _case("a tensor beyond the end", _of_first(data_offsets=[0, 2**40])),
        _case("a tensor of a huge shape", _of_first(shape=[2**40, 2**40])),
        _case("a tensor of a negative shape", _of_first(shape=[-1, 32])),
        _case("a tensor of an unknown type", _of_first(dtype="F7")),
        _case("a missing tensor", without("layers.1.mlp.up_proj"), "lacks 1 weights"),
        _case("a missing layer", without("layers.1."), "lacks"),
        _case("no tensor at all", _tensors(lambda tensors: {}), "lacks"),
        _case(
            "a transposed tensor",
            _tensors(lambda t: {n: x.T.contiguous() if "up_proj" in n else x for n, x in t.items()}),
            "other shapes",
        ),
        _case("a tensor with NaN", _tensors(lambda t: {n: x * float("nan") for n, x in t.items()}), "NaN"),
        _case("a tensor with infinity", _tensors(lambda t: {n: x + float("inf") for n, x in t.items()}), "NaN"),
        *(
            _case(f"weights of type {name}", _cast(name), "whole numbers", "complex", "truth values")
            for name in ("int8", "uint8", "int64", "bool", "complex64")
        ),
        _case("index without the files", index({"weight_map": {"a": "model-1.safetensors"}}), "model-1"),
        _case("index that is a list", index([])),
        _case("index without a map", index({})),
        _case("index whose map is a number", index({"weight_map": 3})),
        _case("index whose files are numbers", index({"weight_map": {"a": 3}})),
        _case("index to a device", index({"weight_map": {"a": "/dev/zero"}})),
        _case("index to outside", index({"weight_map": {"a": "../../model.safetensors"}})),
        _case("index that is damaged", _all(_remove(WEIGHTS), _write(INDEX, b"\xff{"))),
    ]


def _pickles() -> list[Case]:
    return [
        _case("a good pickle of weights", _saved_by_torch(lambda folder, weights: weights), codes=SCORED),
        _case("a pickle that runs code", _all(_remove(WEIGHTS), _pickled())),
        _case("a pickle that runs code, new protocol", _all(_remove(WEIGHTS), _pickled(5))),
        _case(
            "weights saved by torch with code among them",
            _saved_by_torch(lambda folder, weights: weights | {"x": _Marker(folder.parent / EXECUTED)}),
        ),
        _case("a pickle beside good weights", _pickled(), codes=SCORED),
        _case("a pickle that is cut", _all(_saved_by_torch(lambda _, weights: weights), _cut(PICKLED, 5000))),
        _case("a pickle that is empty", _all(_remove(WEIGHTS), _write(PICKLED, b""))),
        _case("a pickle that is a list", _saved_by_torch(lambda _, weights: [1, 2])),
        _case("a pickle of texts", _saved_by_torch(lambda _, weights: dict.fromkeys(weights, "x"))),
        _case("a pickle that is a pipe", _all(_remove(WEIGHTS), _replace(PICKLED, os.mkfifo)), "named pipe"),
    ]


def _tokenizers() -> list[Case]:
    def vocabulary(change: Callable[[dict[str, int]], dict[str, int]]) -> Edit:
        def edit(folder: Path) -> None:
            def both(content: Any) -> Any:
                vocab = change(content["model"]["vocab"])
                return content | {"model": content["model"] | {"vocab": vocab}}

            _change_json(folder / TOKENIZER, both)

        return edit

    def without_bos_and_eos(folder: Path) -> None:
        _drop(TOKENIZER_CONFIG, "bos_token", "eos_token")(folder)
        _change_json(
            folder / TOKENIZER,
            lambda content: (
                content
                | {
                    "added_tokens": [t for t in content["added_tokens"] if t["content"] not in ("<bos>", "<eos>")],
                    "post_processor": None,
                }
            ),
        )

    beyond = vocabulary(lambda vocab: vocab | {"ü": 5000, "é": 900})
    return [
        _case("no tokenizer", _remove(TOKENIZER, TOKENIZER_CONFIG, "special_tokens_map.json"), "no tokenizer"),
        _case("no tokenizer.json", _remove(TOKENIZER), "tokenizer"),
        _case("neither BOS nor EOS", without_bos_and_eos, "neither a BOS nor an EOS"),
        _case("token ids beyond the embedding", beyond, "embedding", text="ü é"),
        _case("token ids beyond the embedding that the text lacks", beyond, codes=SCORED),
        _case("an empty vocabulary", vocabulary(lambda vocab: {}), "tokenizer"),
        _case("a vocabulary of texts", vocabulary(lambda vocab: dict.fromkeys(vocab, "x"))),  # type: ignore[arg-type]
        _case("a vocabulary with negative ids", vocabulary(lambda vocab: vocab | {"a": -1})),
        _case("a vocabulary with huge ids", vocabulary(lambda vocab: vocab | {"a": 2**31}), text="a"),
        *(_case(f"tokenizer.json of {keep} bytes", _cut(TOKENIZER, keep), "tokenizer") for keep in (0, 1, 200)),
        _case("tokenizer.json that is deep", _write(TOKENIZER, "[" * 100_000), "tokenizer"),
        _case("tokenizer.json that is not UTF-8", _write(TOKENIZER, b"\xff\xfe"), "tokenizer"),
        _case("tokenizer.json that is a list", _write(TOKENIZER, "[]"), "tokenizer"),
        _case("tokenizer_config.json that is a list", _write(TOKENIZER_CONFIG, "[]"), "tokenizer"),
        _case("tokenizer_config.json that is damaged", _write(TOKENIZER_CONFIG, b"{"), "tokenizer"),
        _case("a token that is a number", _set(TOKENIZER_CONFIG, bos_token=3)),
        _case("a token that is an object", _set(TOKENIZER_CONFIG, bos_token={"content": 3})),
        _case("an unknown token as BOS", _set(TOKENIZER_CONFIG, bos_token="<new>"), codes=frozenset({0, 2})),
        _case("an unknown tokenizer class", _set(TOKENIZER_CONFIG, tokenizer_class="Nope"), codes=frozenset({0, 2})),
        _case("a longest text that is a text", _set(TOKENIZER_CONFIG, model_max_length="x"), codes=frozenset({0, 2})),
        _case("a vocabulary file that is a device", _set(TOKENIZER_CONFIG, vocab_file="/dev/zero"), codes=SCORED),
        _case("a tokenizer file that is a device", _set(TOKENIZER_CONFIG, tokenizer_file="/dev/zero"), codes=SCORED),
    ]


def _code() -> list[Case]:
    config = {"model_type": "foreign", "auto_map": {"AutoConfig": "foreign.C", "AutoModelForCausalLM": "foreign.M"}}
    tokenizer = {"auto_map": {"AutoTokenizer": ["foreign.T", "foreign.T"]}}
    own = frozenset({0, 2})  # a known class may take the place of the foreign one
    return [
        _case("code in the config", _all(_foreign("foreign"), _set(CONFIG, **config)), "Python code of its own"),
        _case(
            "code beside a known type",
            _all(_foreign("foreign"), _set(CONFIG, auto_map={"AutoModelForCausalLM": "foreign.M"})),
            codes=own,
        ),
        _case(
            "code in another repository",
            _set(CONFIG, model_type="foreign", auto_map={"AutoConfig": "stranger/code--foreign.C"}),
        ),
        _case("code in the tokenizer", _all(_foreign("foreign"), _set(TOKENIZER_CONFIG, **tokenizer)), codes=own),
        _case(
            "code in an unknown tokenizer",
            _all(_foreign("foreign"), _set(TOKENIZER_CONFIG, tokenizer_class="T", **tokenizer)),
            codes=own,
        ),
        _case("odd map of code", _set(CONFIG, auto_map=[1, 2]), codes=own),
        _case("odd map of code in the tokenizer", _set(TOKENIZER_CONFIG, auto_map=3), codes=own),
        _case(
            "a chat template that does not end",
            _write("chat_template.jinja", "{% for a in range(99999) %}" * 2 + "{% endfor %}" * 2),
            codes=SCORED,
        ),
        _case(
            "modules with the names of libraries",
            _all(*(_foreign(name) for name in ("torch", "transformers", "pip", "sitecustomize"))),
            codes=SCORED,
        ),
        _case(
            "code that generates",
            _all(
                lambda folder: (folder / "custom_generate").mkdir(),
                _foreign("custom_generate/generate"),
            ),
            codes=SCORED,
        ),
    ]


def _files() -> list[Case]:
    cases = []
    for file in (CONFIG, WEIGHTS, TOKENIZER, TOKENIZER_CONFIG):
        cases += [
            _case(f"{file} is a pipe", _replace(file, os.mkfifo)),
            _case(f"{file} is a link to itself", _replace(file, lambda path: path.symlink_to(path.name))),
            _case(f"{file} is a device", _replace(file, lambda path: path.symlink_to("/dev/zero"))),
            _case(f"{file} is a folder", _replace(file, os.mkdir)),
        ]
    return [
        *cases,
        _case("a pipe that no library reads", _replace("README.md", os.mkfifo), codes=frozenset({0, 2})),
        _case("added tokens that are a pipe", _replace("added_tokens.json", os.mkfifo), "named pipe"),
        _case("a chat template that is a pipe", _replace("chat_template.jinja", os.mkfifo), "named pipe"),
        _case("an adapter that is a pipe", _replace("adapter_config.json", os.mkfifo), "named pipe"),
        _case("a folder that is a link to itself", _all(shutil.rmtree, lambda folder: folder.symlink_to(folder.name))),
        _case("an empty folder", _all(shutil.rmtree, os.mkdir)),
        _case("a folder that is a file", _all(shutil.rmtree, lambda folder: folder.write_text("x"))),
        _case("a folder that is missing", shutil.rmtree),
        _case("links to the files", _linked, codes=SCORED),
    ]


def _linked(folder: Path) -> None:
    """Move the files elsewhere and leave links, as the cache of the hub does."""
    blobs = folder.parent / "blobs"
    folder.rename(blobs)
    folder.mkdir()
    for file in blobs.iterdir():
        (folder / file.name).symlink_to(file)
