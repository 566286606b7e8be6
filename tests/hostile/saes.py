"""SAE folders of SAELens that are malformed, lie about themselves, or bring code along."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from tests.hostile import sae_weights
from tests.hostile.case import Case
from tests.hostile.sae_folder import (
    CONFIG,
    D_SAE,
    GOOD,
    SCORED,
    SITE,
    WEIGHTS,
    Hostile,
    both,
    change,
    content,
    drop,
    hostile,
    marking_pickle,
    put,
    put_metadata,
    tensors,
)

HUGE, NAN, INF = 10**400, float("nan"), float("inf")
ESC, MARKUP, FORMULA = "\x1b[31mred\x07", "<script>alert(1)</script>", "=cmd|' /C calc'!A0"
LONG = "a" * 100_000


def cases() -> list[Case]:
    """Return the cases. Each runs a hostile SAE and a good one, whose numbers must not depend on it."""
    return [sae.case() for sae in saes()]


def saes() -> list[Hostile]:
    """Return the hostile SAEs."""
    return [
        *_settings(),
        *_metadata(),
        *_old_settings(),
        *_missing(),
        *_documents(),
        *sae_weights.saes(),
        *_harmless(),
    ]


def _of(field: str, values: list[Any], edit: Any = put, *says: str) -> list[Hostile]:
    return [
        hostile(f"{field} is {_shown(value)}", edit(**{field: value}), *(says or (f"{field}=",))) for value in values
    ]


def _shown(value: Any) -> str:
    if isinstance(value, int) and abs(value) > 10**20:
        return "huge"
    return ascii(value)[:40]


def _settings() -> list[Hostile]:
    counts: list[Any] = [None, "32", [32], {"a": 1}, True, 32.5, -32, 0, 2**31, HUGE, NAN, INF]
    return [
        *_of("d_in", counts),
        *_of("d_sae", counts),
        *_of("d_in", [33, 31], put, "d_in=33", "d_in=31"),
        *_of("d_sae", [65, 2**30], put, "d_sae="),
        *_of("k", ["4", [4], {}, True, 4.5, -1, 0, HUGE, NAN]),
        *_of("k", [65, 500], put, "d_sae=64"),
        *_of("k", [None], put, "how many latents"),
        *_of("architecture", [7, [], {}, False, "", ESC, LONG]),
        *_of("architecture", ["no-such", "__class__", "../topk", MARKUP, "batchtopk", "matryoshka_batchtopk"]),
        *_of("architecture", ["gated", "jumprelu"], put, "holds no "),
        *_of("architecture", ["standard"], put, "k=4"),
        *_of("apply_b_dec_to_input", ["yes", 1, [], {}, NAN]),
        *_of("normalize_activations", [7, [], {"a": 1}, "no-such", ESC]),
        *_of("normalize_activations", ["covariance_whitening", True], put, "norm_scaling_factor"),
        *_of("normalize_activations", ["constant_scalar_rescale"], put, "SAELens cannot make"),
        *_of("reshape_activations", ["x", 5, []]),
        *_of("rescale_acts_by_decoder_norm", ["yes", 1, None, []]),
    ]


def _metadata() -> list[Hostile]:
    return [
        *_of("metadata", [[], "x", 7, True, [{}]]),
        *_of("hook_name", [7, [], {}, True, {"a": 1}, ESC, LONG, "\n", "\u202e"], put_metadata),
        *_of("hook_name", ["blocks.99.hook_resid_post"], put_metadata, "99"),
        *_of("hook_name", ["no.such.hook", "../../etc/passwd", MARKUP, FORMULA], put_metadata, "is not a hook"),
        *_of("hook_name", ["\ud800"], put_metadata, "surrogate"),
        *_of("hook_head_index", ["0", [], HUGE], put_metadata),
        *_of("hook_head_index", [2], put_metadata, "attention head"),
        *_of("model_name", [7, [], {}, ESC, LONG], put_metadata),
        *_of("context_size", ["128", -1, True, HUGE], put_metadata),
        *_of("prepend_bos", ["yes", 7], put_metadata),
        *_of("seqpos_slice", ["x", {}, [1, 2, 3, 4], ["a"], [1.5]], put_metadata),
        *_of("model_from_pretrained_kwargs", [[], "x", 7], put_metadata),
        *_of("training_architecture", [7, [], ESC], put_metadata),
        *_of("exclude_special_tokens", ["x", {}, ["<bos>"]], put_metadata),
    ]


def _old_settings() -> list[Hostile]:
    return [
        *_of("activation_fn", ["swish", 7, ["relu"], {}, ESC, "__import__('os')"]),
        *_of("activation_fn", ["tanh-relu"], put, "do not go together"),
        *_of("activation_fn_kwargs", [[], "x", 7]),
        *_of("activation_fn_kwargs", [{"k": 5}], put, "remove the wrong one"),
        *_of("activation_fn_kwargs", [{"k": "4"}], put, "k='4'"),
        *_of("activation_fn_kwargs", [{"postact_fn": "gelu"}], put, "postact_fn"),
        *_of("finetuning_scaling_factor", ["yes", 1, []]),
        hostile("two names of the activation", put(activation_fn="relu", activation_fn_str="topk"), "mean the same"),
        hostile(
            "a scaling factor that nothing uses",
            tensors(lambda loaded: loaded.update(scaling_factor=np.full(D_SAE, 2, np.float32))),
            "finetuning_scaling_factor",
        ),
    ]


def _missing() -> list[Hostile]:
    return [
        *(hostile(f"no {name}", drop(name), name) for name in ("d_in", "d_sae", "k")),
        hostile("no metadata", drop("metadata"), "does not say where it reads"),
        hostile("no hook name", change(lambda config: config["metadata"].pop("hook_name")), "?hook="),
    ]


def _documents() -> list[Hostile]:
    good = json.dumps(GOOD)
    twice = good[:-1] + ', "k": 500}'
    documents: dict[str, tuple[bytes | str, str]] = {
        "empty": (b"", "not valid JSON"),
        "cut": (good[:40], "not valid JSON"),
        "an open brace": ("{", "not valid JSON"),
        "a list": ("[]", "JSON object"),
        "null": ("null", "JSON object"),
        "a number": ("7", "JSON object"),
        "a text": ('"x"', "JSON object"),
        "UTF-16": (good.encode("utf-16"), "not UTF-8"),
        "Latin-1": (b'{"a": "\xff"}', "not UTF-8"),
        "zero bytes": (b"\0" * 100, "not valid JSON"),
        "a pickle": (b"\x80\x04\x95\x00", "not UTF-8"),
        "500 deep": ('{"metadata":' * 500 + "1" + "}" * 500, "deep"),
        "100,000 deep": ("[" * 100_000, "deep"),
        "a number of 4,301 digits": ('{"d_in": ' + "9" * 4301 + "}", "too many digits"),
        "a key twice": (twice, "twice"),
        "a trailing comma": (good[:-1] + ",}", "not valid JSON"),
        "single quotes": (good.replace('"', "'"), "not valid JSON"),
        "half a surrogate pair as a key": ('{"\\ud800": 1}', "surrogate"),
        "half a surrogate pair as a value": (good[:-1] + ', "x": ["\\udcff"]}', "surrogate"),
        "too large": (b" " * (2**20 + 1), "larger than"),
        "YAML": ("d_in: 32\nd_sae: 64\n", "not valid JSON"),
        "HTML": ("<!DOCTYPE html><script>alert(1)</script>", "not valid JSON"),
        "another program's": ('{"model_type": "llama", "hidden_size": 32}', "d_in"),
    }
    return [hostile(f"config is {name}", content(text), says) for name, (text, says) in documents.items()]


def _harmless() -> list[Hostile]:
    """Folders that look odd and hold a good SAE, which must not be lost."""
    odd = {"__class__": 1, "to_dict": "x", ESC: MARKUP, "x": [None, {"y": HUGE}]}
    return [
        hostile("harmless: a byte order mark", content(b"\xef\xbb\xbf" + json.dumps(GOOD).encode()), codes=SCORED),
        hostile("harmless: unknown settings", put(**odd), codes=SCORED),
        hostile("harmless: unknown metadata", put_metadata(**odd), codes=SCORED),
        hostile("harmless: a device that is not there", put(device="cuda:99", dtype=7), codes=SCORED),
        hostile("harmless: no version", put_metadata(sae_lens_version=None), codes=SCORED),
        hostile("harmless: a wrong version", put_metadata(sae_lens_version="banana"), codes=SCORED),
        hostile("harmless: null for a flag", put(apply_b_dec_to_input=None), codes=SCORED),
        hostile("harmless: null for a choice", put(normalize_activations=None), codes=SCORED),
        hostile("harmless: a flat file", both(drop("metadata"), put(hook_point=SITE)), codes=SCORED),
        hostile("harmless: another model's name", put_metadata(model_name=MARKUP), "trained on", codes=SCORED),
        hostile("harmless: files beside it", lambda folder: marking_pickle(folder / "trainer_state.pt"), codes=SCORED),
        hostile("harmless: linked files", _link, codes=SCORED),
    ]


def _link(folder: Path) -> None:
    for name in (CONFIG, WEIGHTS):
        (folder / name).rename(folder / f"blob-{name}")
        (folder / name).symlink_to(f"blob-{name}")
