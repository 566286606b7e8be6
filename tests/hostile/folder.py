"""A folder of small inputs that the fuzzers name: SAEs, a model, texts, code, configs and records. None needs torch."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

SITE = "blocks.1.hook_resid_post"
HOOKED = {"architecture": "topk", "d_in": 32, "d_sae": 64, "k": 4, "metadata": {"hook_name": SITE}}
SAE_CONFIGS: dict[str, object] = {
    "good": HOOKED,
    "no-hook": {"architecture": "topk", "d_in": 32, "d_sae": 64, "k": 4},
    "list": [1, 2],
    "odd-metadata": {"architecture": ["x"], "metadata": []},
    "odd-hook": {"architecture": "topk", "d_in": "x", "metadata": {"hook_name": {"a": 1}}},
    "no-such-hook": {**HOOKED, "metadata": {"hook_name": "blocks.99.hook_resid_post"}},
    "surrogate": {**HOOKED, "metadata": {"hook_name": "blocks.1.hook_\ud800"}},
    "nested": json.loads('{"metadata":' * 50 + "1" + "}" * 50),
}
MODEL_CONFIGS: dict[str, object] = {
    "model": {"model_type": "gpt2", "n_layer": 3, "n_embd": 32},
    "model-list": [1],
    "model-odd": {"num_hidden_layers": "3", "n_layer": True, "text_config": [1], "hidden_size": -1},
    "model-huge": {"num_hidden_layers": 10**30, "hidden_size": 10**30},
}
FACTORY = "def build():\n    raise SystemExit('the fuzzer must not run this')\n"


def fill(folder: Path) -> None:
    """Write the inputs into ``folder``."""
    for name, config in SAE_CONFIGS.items():
        (folder / name).mkdir()
        (folder / name / "cfg.json").write_text(json.dumps(config), "utf-8")
        (folder / name / "sae_weights.safetensors").write_bytes(b"")
    for name, config in MODEL_CONFIGS.items():
        (folder / name).mkdir()
        (folder / name / "config.json").write_text(json.dumps(config), "utf-8")
    (folder / "broken").mkdir()
    (folder / "broken" / "cfg.json").write_bytes(b"\xff{")
    (folder / "broken" / "config.json").write_text('{"n_layer": ' + "9" * 5000 + "}", "utf-8")
    (folder / "text.jsonl").write_text('{"text": "a few words"}\n' * 4, "utf-8")
    (folder / "labels.csv").write_text("prompt,target\na,0\nb,1\n", "utf-8")
    (folder / "code.py").write_text(FACTORY, "utf-8")
    (folder / "run.yaml").write_text("tasks: [core]\npreset: smoke\nmodel: model\nsae: [sae_lens:good]\n", "utf-8")
    (folder / "board.yaml").write_text("name: board\ntitle: t\ndescription: d\ntasks: {core: }\n", "utf-8")
    (folder / "\udcff-folder").mkdir()
    (folder / "file").write_bytes(b"\x00\xff")
    os.mkfifo(folder / "pipe")
    (folder / "link-to-itself").symlink_to("link-to-itself")


def write_records(folder: Path) -> None:
    """Write records of two SAEs and a control into ``folder``."""
    from saebench.results.identity import record_id
    from saebench.results.provenance import collect
    from saebench.results.record import Identity, Measurement, Record, SAEInfo, Status
    from saebench.results.store import ResultStore

    for number, sae in enumerate(("sae_lens:good", "sae_lens:other", "baseline:neurons")):
        identity = Identity(
            task="core",
            task_version=1,
            parameters={"text": "jsonl:text.jsonl"},
            seed=0,
            model="model",
            model_fingerprint="m",
            dtype="float32",
            device_class="cpu",
            sae=sae,
            sae_fingerprint=f"{number}" * 64,
            data={"jsonl:text.jsonl": "d"},
        )
        record = Record(
            record_id=record_id(identity),
            preset="smoke",
            status=Status.OK,
            identity=identity,
            sae=SAEInfo(name=sae, architecture="topk", hook=SITE, d_in=32, d_sae=64, control=number == 2),
            measurements=[Measurement(metric="fvu", value=0.1 + number, n=4, unit="sequence", contributions="fvu")],
            provenance=collect(device="cpu", wall_seconds=1.0),
        )
        arrays = {"fvu.num": np.arange(4.0) + number, "fvu.den": np.ones(4)}
        ResultStore(folder).write(record, arrays)


@contextmanager
def working_folder(folder: Path) -> Iterator[None]:
    """Fill ``folder`` and make it the current folder, the home, and the place of assets and caches."""
    fill(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("HOME", str(folder))
        patch.setenv("SAEBENCH_HOME", str(folder / "home"))
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield
