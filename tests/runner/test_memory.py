"""What a run takes of memory, measured in a process of its own: within its budget, and flat in tokens and latents."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from saebench.runner.request import MIN_MEMORY
from tests.conftest import VOCABULARY, build_tokenizer
from tests.runner.conftest import Inputs, write_text

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux' accounting of memory")

WIDTH, CONTEXT, SITE = 512, 64, "blocks.0.hook_resid_post"
FEW, MANY = 128, 768  # sequences
WIDE = 2**16  # latents: codes of a batch of 2,048 tokens take 537 MB
# Beside the budget: the shard at hand (activations, final states and mean unembeddings), what
# libraries set up at the first pass, and freed memory that the allocator keeps.
MARGIN = 80 * 10**6

FACTORY = f'''
import torch
from saebench.sae.base import BaseAdapter
from saebench.sae.protocol import Capability, HookSite

class ReLU(BaseAdapter):
    """Plain, and without directions that could be compared, which would take longer than everything else."""

    def __init__(self, d_in, d_sae):
        super().__init__(name=f"relu-{{d_sae}}", architecture="relu", hook=HookSite.at("{SITE}"),
                         d_in=d_in, d_sae=d_sae, capabilities=frozenset({{Capability.POSITION_WISE}}))
        self.weight = torch.randn(d_in, d_sae, generator=torch.Generator().manual_seed(0)) / d_in

    def encode(self, x):
        z = x @ self.weight
        return torch.relu(z.sub_(3 * z.std(-1, keepdim=True)))  # one latent in 700 fires

    def decode(self, z, x=None):
        return z @ self.weight.T

    def settings(self):
        return {{"d_sae": self.d_sae}}

def relu(d_in, d_sae):
    return ReLU(int(d_in), int(d_sae))
'''

# Anonymous memory alone is counted: pages of mapped files, which the cache and the weights are, are given back at need.
SCRIPT = """
import json, sys, threading, time
import torch
torch.set_num_threads(1)
from saebench.progress import NullProgress
from saebench.runner import execute
from saebench.runner.plan import make_plan
from saebench.runner.request import make_request
from saebench.tasks.core.task import CoreTask

def anonymous():
    with open("/proc/self/status") as file:
        return next(1024 * int(line.split()[1]) for line in file if line.startswith("RssAnon"))

peak, at_work = 0, threading.Event()

def watch():
    global peak
    while True:
        at_work.wait()
        peak = max(peak, anonymous())
        time.sleep(0.001)

threading.Thread(target=watch, daemon=True).start()
grown, real = [], CoreTask.run

def run(self, *arguments):
    global peak
    peak = start = anonymous()
    at_work.set()
    try:
        return real(self, *arguments)
    finally:
        at_work.clear()
        grown.append(peak - start)

CoreTask.run = run
for options in json.loads(sys.argv[1]):
    summary = execute.execute(make_plan(make_request(options)), NullProgress())
    assert [r.status.value for r in summary.records] == ["ok"], summary.records[0].error
print(json.dumps(grown))
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One narrow block around a wide residual stream: many bytes of activations for little work."""
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        max_position_embeddings=CONTEXT,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=2,
    )
    folder = tmp_path_factory.mktemp("wide-stream")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    build_tokenizer().save_pretrained(folder)
    return folder


def measure(home: Path, *runs: dict[str, Any]) -> list[int]:
    """Growth of anonymous memory during the core task, in bytes, of each run, one after the other in one process."""
    environment = {**os.environ, "SAEBENCH_HOME": str(home)}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(runs)], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    grown: list[int] = json.loads(done.stdout.splitlines()[-1])
    return grown


@pytest.fixture(scope="module")
def grown(inputs: Inputs, model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    folder = tmp_path_factory.mktemp("grown")
    (folder / "factory.py").write_text(textwrap.dedent(FACTORY), "utf-8")
    sae = f"python:{folder / 'factory.py'}:relu?d_in={{}}&d_sae={{}}"
    text = write_text(folder / "text.jsonl", n=1000, length=80)
    assert MANY * CONTEXT * WIDTH * 4 > MIN_MEMORY  # what is kept for the losses is twice as much again
    narrow = {"model": str(model), "sae": [sae.format(WIDTH, 64)]}
    runs = {
        "few": {**narrow, "limit": FEW, "cache_budget": 0},
        "many": {**narrow, "limit": MANY, "cache_budget": 0},
        "on disk": {**narrow, "limit": MANY},
        "wide": {"sae": [sae.format(32, WIDE)], "limit": 64},
    }
    shared = {
        **inputs.options,
        "text": text,
        "memory_budget": MIN_MEMORY,
        "parameters": {"core": {"context_length": CONTEXT, "bootstrap_replicates": 100}},
    }
    requests = [{**shared, **run, "out": str(folder / name)} for name, run in runs.items()]
    return dict(zip(runs, measure(folder / "home", *requests), strict=True))


@pytest.mark.parametrize("run", ["few", "many", "on disk", "wide"])
def test_a_run_stays_within_its_budget(grown: dict[str, int], run: str):
    assert grown[run] <= MIN_MEMORY + MARGIN


def test_more_tokens_take_no_more_memory(grown: dict[str, int]):
    assert grown["many"] <= grown["few"] + MARGIN // 2
