"""Files of weights and of scales that are damaged or lie, and folders that are none."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from tests.hostile.sae_folder import (
    CONFIG,
    D_IN,
    D_SAE,
    EITHER,
    GOOD,
    REFUSED,
    SCALER,
    SCORED,
    WEIGHTS,
    Hostile,
    both,
    content,
    data,
    drop,
    header,
    hostile,
    marking_archive,
    marking_pickle,
    put,
    put_metadata,
    replace,
    replace_folder,
    tensors,
    torch_tensors,
)

HUGE, NAN, INF = 10**400, float("nan"), float("inf")
ESC, MARKUP = "\x1b[31mred\x07", "<script>alert(1)</script>"


def saes() -> list[Hostile]:
    """Return the hostile SAEs."""
    return [
        *_headers(),
        *_bytes(),
        *_types(),
        *_shapes(),
        *_numbers(),
        *_architectures(),
        *_scalers(),
        *_places(),
        *_pickles(),
    ]


def _headers() -> list[Hostile]:
    def of(**values: Any) -> Any:
        return header(lambda entries: entries["W_enc"].update(values))

    return [
        hostile("header claims 2^40 elements", of(shape=[2**40]), "claims the shape"),
        hostile("header claims 2^124 elements", of(shape=[2**62, 2**62]), "claims the shape"),
        hostile("header claims a negative dimension", of(shape=[-32, 64]), "type, shape and place"),
        hostile("header claims a huge dimension", of(shape=[HUGE, 64]), "type, shape and place"),
        hostile("header claims no dimension", of(shape=[0, 64]), "claims the shape"),
        hostile("header claims a text as shape", of(shape="32x64"), "type, shape and place"),
        hostile("header claims truth values as shape", of(shape=[True, 2048]), "type, shape and place"),
        hostile("header claims 9 dimensions", of(shape=[1] * 7 + [32, 64]), "9 dimensions"),
        hostile("header claims the transpose", of(shape=[64, 32]), "[32, 64] is needed"),
        hostile("header claims float64", of(dtype="F64"), "claims the shape"),
        hostile("header claims float16", of(dtype="F16"), "claims the shape"),
        hostile("header claims int32", of(dtype="I32"), "int32"),
        hostile("header claims an unknown type", of(dtype="F32X"), "F32X"),
        hostile("header claims a list as type", of(dtype=["F32"]), "type, shape and place"),
        hostile("header claims a place outside the file", of(data_offsets=[2**50, 2**50 + 8192]), "truncated"),
        hostile("header claims a negative place", of(data_offsets=[-8192, 0]), "type, shape and place"),
        hostile("header claims a place backwards", of(data_offsets=[8192, 0]), "claims the shape"),
        hostile("header claims another's place", of(data_offsets=[0, 8192]), "overlaps", "gap"),
        hostile("header has three offsets", of(data_offsets=[0, 8192, 9]), "type, shape and place"),
        hostile("header has no entry", header(lambda entries: entries.update(W_enc=3)), "type, shape and place"),
        hostile(
            "header forgets a tensor", header(lambda entries: entries.pop("W_enc") and entries), "gap", "describes"
        ),
        hostile("header is empty", header(lambda entries: b"{}"), "describes 0"),
        hostile("header is a list", header(lambda entries: b"[1, 2]"), "no JSON object"),
        hostile("header is no JSON", header(lambda entries: b"{"), "not valid JSON"),
        hostile("header is not UTF-8", header(lambda entries: b"\xff" * 20), "not UTF-8"),
        hostile("header is 500 deep", header(lambda entries: b'{"a":' * 500 + b"1" + b"}" * 500), "deep"),
        hostile("header has a key twice", header(lambda entries: b'{"a": {}, "a": {}}'), "twice"),
        hostile("header has half a surrogate", header(lambda entries: b'{"\\ud800": {}}'), "surrogate"),
        hostile("header renames with ESC", header(lambda e: e.update({ESC: e.pop("W_enc")})), "holds no W_enc"),
        hostile("header renames with markup", header(lambda e: e.update({MARKUP: e.pop("b_enc")})), "holds no b_enc"),
        hostile("header renames with a path", header(lambda e: e.update({"../W": e.pop("b_dec")})), "holds no b_dec"),
    ]


def _bytes() -> list[Hostile]:
    lengths = {"2^63": 2**63, "2^64 - 1": 2**64 - 1, "16 MB": 2**24 + 1, "a million": 10**6}
    return [
        *(
            hostile(f"weights cut at {keep}", data(lambda old, keep=keep: old[:keep]), WEIGHTS)
            for keep in (0, 1, 7, 8, 9, 40, 100, 1000, 9000, -1)
        ),
        hostile("weights with a byte too many", data(lambda old: old + b"\0"), "header describes"),
        hostile("weights of zeros", data(lambda old: b"\0" * len(old)), WEIGHTS),
        hostile("weights of noise", data(lambda old: np.random.default_rng(1).bytes(len(old))), WEIGHTS),
        hostile("weights are HTML", content("<!DOCTYPE html>" * 20, WEIGHTS), "no safetensors file"),
        hostile("weights are JSON", content(json.dumps(GOOD), WEIGHTS), "no safetensors file"),
        hostile(
            "weights are a pointer", content("version https://git-lfs.github.com/spec/v1\n", WEIGHTS), "git lfs pull"
        ),
        *(
            hostile(
                f"weights claim a header of {name}", data(lambda old, n=n: n.to_bytes(8, "little") + old[8:]), "claims"
            )
            for name, n in lengths.items()
        ),
    ]


def _types() -> list[Hostile]:
    kinds = ("bool", "int8", "uint8", "int16", "int32", "int64", "complex64", "float8_e4m3fn", "float8_e5m2")

    def cast(key: str, kind: str) -> Any:
        return torch_tensors(lambda loaded, torch: loaded.update({key: (loaded[key] * 9).to(getattr(torch, kind))}))

    floats = ("float16", "bfloat16", "float64")
    return [
        *(hostile(f"W_enc of {kind}", cast("W_enc", kind), f"W_enc holds numbers of type {kind}") for kind in kinds),
        *(
            hostile(f"b_dec of {kind}", cast("b_dec", kind), f"b_dec holds numbers of type {kind}")
            for kind in kinds[:4]
        ),
        *(hostile(f"W_dec of {kind}", cast("W_dec", kind), codes=SCORED) for kind in floats),
    ]


def _shapes() -> list[Hostile]:
    def of(key: str, make: Any) -> Any:
        return tensors(lambda loaded: loaded.update({key: make(loaded[key])}))

    return [
        *(
            hostile(f"weights without {key}", tensors(lambda loaded, key=key: loaded.pop(key)), f"holds no {key}")
            for key in ("W_enc", "W_dec", "b_enc", "b_dec")
        ),
        hostile("weights with a tensor too many", tensors(lambda t: t.update(x=np.ones(3, np.float32))), "no use for"),
        hostile("W_dec transposed", of("W_dec", lambda w: w.T), "[64, 32] is needed"),
        hostile("W_enc transposed", of("W_enc", lambda w: w.T), "[32, 64] is needed"),
        hostile("W_enc flat", of("W_enc", lambda w: w.ravel()), "[32, 64] is needed"),
        hostile("W_enc with a third dimension", of("W_enc", lambda w: w[None]), "[32, 64] is needed"),
        hostile("W_enc empty", of("W_enc", lambda w: w[:0]), "[32, 64] is needed"),
        hostile("b_enc a number", of("b_enc", lambda b: b[0]), "[64] is needed"),
        hostile("b_dec of another width", of("b_dec", lambda b: b[:-1]), "[32] is needed"),
        hostile("no tensors", tensors(lambda loaded: loaded.clear()), "holds no"),
        hostile(
            "an SAE of another width",
            both(put(d_in=16), tensors(_narrow)),
            "16 dimensions",
        ),
    ]  # fmt: skip


def _numbers() -> list[Hostile]:
    def filled(key: str, number: float, dtype: Any = np.float32) -> Any:
        def edit(loaded: dict[str, Any]) -> None:
            loaded[key] = loaded[key].astype(dtype)
            loaded[key].flat[3] = number

        return tensors(edit)

    return [
        *(
            hostile(f"{key} with {number}", filled(key, number), f"{key} holds 1 NaN or Inf")
            for key in ("W_enc", "W_dec", "b_enc", "b_dec")
            for number in (NAN, INF)
        ),
        hostile("W_enc beyond float32", filled("W_enc", 1e300, np.float64), "W_enc holds 1 NaN or Inf"),
        hostile("W_enc of 3e38", tensors(lambda t: t["W_enc"].fill(3e38)), "NaN or Inf"),
        hostile("W_dec of 3e38", tensors(lambda t: t["W_dec"].fill(3e38)), codes=EITHER),
        hostile("weights of 0", tensors(lambda t: [value.fill(0) for value in t.values()]), codes=EITHER),
        hostile("weights of 1e-40", tensors(lambda t: [value.fill(1e-40) for value in t.values()]), codes=EITHER),
        hostile(
            "a zero row under rescaling",
            both(put(rescale_acts_by_decoder_norm=True), tensors(lambda t: t["W_dec"][5].fill(0))),
            codes=SCORED,
        ),
    ]


def _architectures() -> list[Hostile]:
    def jumprelu(number: float, **metadata: Any) -> Any:
        threshold = tensors(lambda t: t.update(threshold=np.full(D_SAE, number, np.float32)))
        return both(put(architecture="jumprelu"), drop("k"), put_metadata(**metadata), threshold)

    def only_decoder(**settings: Any) -> Any:
        return both(put(**settings), drop("k"), tensors(lambda t: [t.pop("W_enc"), t.pop("b_enc")]))

    temporal = {"architecture": "temporal", "n_heads": 2, "bottleneck_factor": 4}
    return [
        hostile("thresholds of 0", jumprelu(0.0), "never estimated"),
        hostile("thresholds of -1", jumprelu(-1.0), "never estimated"),
        hostile("thresholds of a BatchTopK SAE", jumprelu(-1.0, training_architecture="batchtopk"), "never estimated"),
        hostile("thresholds of NaN", jumprelu(NAN), "threshold holds 64 NaN"),
        hostile("no thresholds", both(put(architecture="jumprelu"), drop("k")), "holds no threshold"),
        hostile("a billion attention layers", only_decoder(**temporal, n_attn_layers=10**9), "n_attn_layers"),
        hostile("a temporal SAE of odd width", only_decoder(**temporal | {"n_heads": 3}), "divisible"),
        hostile("temporal without its layers", only_decoder(**temporal, n_attn_layers=2), "holds no "),
        hostile(
            "a billion rounds", only_decoder(architecture="matching_pursuit", max_iterations=10**9), "max_iterations"
        ),
        hostile(
            "a transcoder to nowhere",
            both(put(architecture="transcoder", d_out=D_IN, apply_b_dec_to_input=False), drop("k")),
            "hook_out",
        ),
        hostile("a transcoder of no width", both(put(architecture="transcoder", d_out=0), drop("k")), "d_out=0"),
    ]


def _scalers() -> list[Hostile]:
    scaled = put(normalize_activations="expected_average_only_in")
    documents: dict[str, tuple[str, str]] = {
        "a list": ("[]", "must hold an object"),
        "a factor that is a text": ('{"scaling_factor": "1"}', "scaling_factor='1'"),
        "a factor of 0": ('{"scaling_factor": 0}', "scaling_factor=0"),
        "a negative factor": ('{"scaling_factor": -1}', "scaling_factor=-1"),
        "a factor that is no number": ('{"scaling_factor": NaN}', "scaling_factor=nan"),
        "no factor": ("{}", "norm_scaling_factor=FACTOR"),
        "damaged": ("{", "not valid JSON"),
    }
    return [
        *(
            hostile(f"scaler: {name}", both(scaled, content(text, SCALER)), says)
            for name, (text, says) in documents.items()
        ),
        hostile("scaler: a pipe", both(scaled, lambda folder: os.mkfifo(folder / SCALER)), "named pipe"),
        hostile("scaler: a loop", both(scaled, lambda folder: (folder / SCALER).symlink_to(SCALER)), "symbolic links"),
    ]  # fmt: skip


def _places() -> list[Hostile]:
    kinds: dict[str, tuple[Any, str]] = {
        "a pipe": (os.mkfifo, "named pipe"),
        "a folder": (Path.mkdir, "folder"),
        "a loop of links": (lambda path: path.symlink_to(path.name), "symbolic links"),
        "an endless device": (lambda path: path.symlink_to("/dev/zero"), "device"),
        "an empty device": (lambda path: path.symlink_to("/dev/null"), "device"),
        "a link to nothing": (lambda path: path.symlink_to("nothing"), "No such file", "has no cfg.json"),
    }
    both_files = [
        hostile(f"{file} is {name}", replace(file, make), *says)
        for file in (CONFIG, WEIGHTS)
        for name, (make, *says) in kinds.items()
    ]
    return [
        *both_files,
        hostile("the folder is a pipe", replace_folder(os.mkfifo), "no folder"),
        hostile("the folder is a file", replace_folder(lambda path: path.write_bytes(b"x")), "no folder"),
        hostile("the folder is a device", replace_folder(lambda path: path.symlink_to("/dev/zero")), "no folder"),
        hostile("the folder is empty", lambda sae: [file.unlink() for file in sae.iterdir()], f"has no {WEIGHTS}"),
        hostile("the folder is a loop", replace_folder(lambda path: path.symlink_to("sae")), codes=REFUSED),
        hostile("the folder is not there", replace_folder(lambda path: None), "does not exist", codes=REFUSED),
        hostile("no config", replace(CONFIG, lambda path: None), f"has no {CONFIG}"),
        hostile("no weights", replace(WEIGHTS, lambda path: None), f"has no {WEIGHTS}"),
        hostile("a path below a file", lambda folder: None, codes=REFUSED, body=f"sae/{CONFIG}/x"),
        hostile("the path of a file", lambda folder: None, "no folder", body=f"sae/{CONFIG}"),
        hostile("a longer path", lambda folder: None, codes=EITHER, body="sae/../sae/./../sae"),
    ]


def _pickles() -> list[Hostile]:
    alone = ("sae.pt", "sae.bin", "sae.pkl", "sae.pth", "sae.ckpt")

    def instead(name: str, write: Any) -> Any:
        return both(replace(WEIGHTS, lambda path: None), lambda folder: write(folder / name))

    return [
        *(hostile(f"weights are a pickle in {name}", instead(name, marking_pickle), "pickled") for name in alone),
        *(
            hostile(f"weights are an archive in {name}", instead(name, marking_archive), "pickled")
            for name in alone[:2]
        ),
        hostile("weights hold a pickle", replace(WEIGHTS, marking_pickle), "holds a pickle"),
        hostile("weights hold an archive", replace(WEIGHTS, marking_archive), "holds a pickle"),
        *(
            hostile(
                f"weights hold a pickle of protocol {protocol}",
                replace(WEIGHTS, lambda path, protocol=protocol: marking_pickle(path, protocol)),
                WEIGHTS,
            )
            for protocol in (0, 1, 2, 3, 5)
        ),
        hostile("the reference names a pickle", lambda sae: marking_pickle(sae / "x.pt"), "pickled", body="sae/x.pt"),
        hostile("config is a marking pickle", replace(CONFIG, marking_pickle), CONFIG),
    ]


def _narrow(loaded: dict[str, Any]) -> None:
    loaded.update(W_enc=loaded["W_enc"][:16], W_dec=loaded["W_dec"][:, :16], b_dec=loaded["b_dec"][:16])
