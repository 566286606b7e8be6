"""What every test shares: no network, one thread, and tiny random language models with their tokenizer.

Each model has d_model 32 and a vocabulary of 128, weights drawn from a fixed seed with a spread that makes the
logits far from uniform. ``tiny_<family>`` gives ``(model, tokenizer)``, ``tiny_<family>_dir`` the same saved as a
folder; ``tiny_lm`` and ``tiny_lm_dir`` run a test once per family.
"""

from __future__ import annotations

import os

# Before torch and huggingface_hub are imported: both read these once.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("OMP_NUM_THREADS", "1")

import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
import torch
import transformers
from hypothesis import settings
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors

from tests.hub.fixture import hub  # noqa: F401 (a fixture)

VOCABULARY = 128
WIDTH = 32
CONTEXT = 64
SPECIAL = ("<pad>", "<eos>", "<bos>", "<unk>")

settings.register_profile("saebench", deadline=None, derandomize=True)
settings.load_profile("saebench")
torch.set_num_threads(1)
# A shell's background job ignores Ctrl-C, and `nohup` the end of the terminal, and what they start inherits that; the
# tests of these signals must not.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_make_parametrize_id(config: pytest.Config, val: object, argname: str) -> str | None:
    """Name cases of bytes by their number: packed bytes hold the time of packing, and workers must agree on names."""
    return argname if isinstance(val, bytes) else None


@pytest.fixture(autouse=True)
def _no_audits(request: pytest.FixtureRequest) -> Iterator[None]:
    """No metric has a grade, whatever the last audit of the repository said, but for tests marked ``published``."""
    from saebench.cards import audits

    if request.node.get_closest_marker("published"):
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(audits, "audits_dir", lambda: Path("/nonexistent"))
        audits.audit_of.cache_clear()
        yield
    audits.audit_of.cache_clear()


TinyLM = tuple[transformers.PreTrainedModel, transformers.PreTrainedTokenizerFast]


def build_tokenizer() -> transformers.PreTrainedTokenizerFast:
    """One token per printable ASCII character; anything else is ``<unk>``. Puts ``<bos>`` first, like Gemma's."""
    characters = ["\n", *map(chr, range(32, 127))]
    unused = [f"<unused{i}>" for i in range(VOCABULARY - len(SPECIAL) - len(characters))]
    vocabulary = {token: i for i, token in enumerate([*SPECIAL, *characters, *unused])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", pair="<bos> $A <bos> $B", special_tokens=[("<bos>", vocabulary["<bos>"])]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="<eos>",
        bos_token="<bos>",
        unk_token="<unk>",
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )


def build_config(family: str) -> transformers.PreTrainedConfig:
    special = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2}
    decoder = {
        "vocab_size": VOCABULARY,
        "hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": CONTEXT,
        "initializer_range": 0.25,
        **special,
    }
    layer_types = ["sliding_attention", "sliding_attention", "full_attention", "sliding_attention"]
    gemma = {"num_hidden_layers": 4, "layer_types": layer_types, "sliding_window": 6, "query_pre_attn_scalar": 8}
    if family == "gemma3":
        return transformers.Gemma3TextConfig(**decoder, **gemma)
    if family == "gemma2":
        return transformers.Gemma2Config(**decoder, **gemma, final_logit_softcapping=3.0)
    if family == "llama":
        return transformers.LlamaConfig(**decoder, num_hidden_layers=3, tie_word_embeddings=True)
    if family == "gpt2":
        return transformers.GPT2Config(
            vocab_size=VOCABULARY,
            n_positions=CONTEXT,
            n_embd=WIDTH,
            n_layer=3,
            n_head=4,
            initializer_range=0.25,
            **special,
        )
    raise ValueError(f"no tiny model of family {family!r}")


def build_model(family: str) -> transformers.PreTrainedModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(build_config(family), attn_implementation="eager")
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="session")
def tiny_tokenizer() -> transformers.PreTrainedTokenizerFast:
    return build_tokenizer()


FAMILIES = ("gemma3", "gemma2", "llama", "gpt2")


def _saved(lm: TinyLM, folder: Path) -> Path:
    for part in lm:
        part.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_gemma3(tiny_tokenizer: transformers.PreTrainedTokenizerFast) -> TinyLM:
    """Gemma 3 text model, four layers: sliding, sliding, full, sliding attention (window 6)."""
    return build_model("gemma3"), tiny_tokenizer


@pytest.fixture(scope="session")
def tiny_gemma2(tiny_tokenizer: transformers.PreTrainedTokenizerFast) -> TinyLM:
    """Gemma 2, as `tiny_gemma3`, with its final logits soft-capped at 3."""
    return build_model("gemma2"), tiny_tokenizer


@pytest.fixture(scope="session")
def tiny_llama(tiny_tokenizer: transformers.PreTrainedTokenizerFast) -> TinyLM:
    """Llama, three layers, grouped-query attention, tied embeddings."""
    return build_model("llama"), tiny_tokenizer


@pytest.fixture(scope="session")
def tiny_gpt2(tiny_tokenizer: transformers.PreTrainedTokenizerFast) -> TinyLM:
    """GPT-2, three layers, learned positions."""
    return build_model("gpt2"), tiny_tokenizer


@pytest.fixture(scope="session")
def tiny_gemma3_dir(tiny_gemma3: TinyLM, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _saved(tiny_gemma3, tmp_path_factory.mktemp("tiny-gemma3"))


@pytest.fixture(scope="session")
def tiny_gemma2_dir(tiny_gemma2: TinyLM, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _saved(tiny_gemma2, tmp_path_factory.mktemp("tiny-gemma2"))


@pytest.fixture(scope="session")
def tiny_llama_dir(tiny_llama: TinyLM, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _saved(tiny_llama, tmp_path_factory.mktemp("tiny-llama"))


@pytest.fixture(scope="session")
def tiny_gpt2_dir(tiny_gpt2: TinyLM, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _saved(tiny_gpt2, tmp_path_factory.mktemp("tiny-gpt2"))


@pytest.fixture(params=FAMILIES)
def tiny_lm(request: pytest.FixtureRequest) -> TinyLM:
    """Each tiny model in turn."""
    return request.getfixturevalue(f"tiny_{request.param}")


@pytest.fixture(params=FAMILIES)
def tiny_lm_dir(request: pytest.FixtureRequest) -> Path:
    """The folder of each tiny model in turn."""
    return request.getfixturevalue(f"tiny_{request.param}_dir")


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Runs share activations among themselves, not with those of this machine; SAEBENCH_HOME still moves the cache."""
    from saebench.data import assets
    from saebench.runner import execute

    home, folder = assets.home(), tmp_path_factory.mktemp("activations")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            execute, "cache_folder", lambda: folder if assets.home() == home else assets.home() / "activations"
        )
        yield


@pytest.fixture(scope="session")
def soak_pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessPoolExecutor]:
    """A worker that has imported everything; it starts command lines that may be killed, hang or crash."""
    from tests.soak.pool import make_pool

    with make_pool(1, tmp_path_factory.mktemp("soak")) as pool:
        yield pool
