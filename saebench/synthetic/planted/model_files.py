"""The files of a planted language model: a Llama with two blocks, and a tokenizer whose tokens are words.

Block 0 attends to all tokens so far alike, because queries and keys are 0; its values are what each token tells of, and
its output adds the concepts' directions. Its MLP and all of block 1 write nothing. The first layers of the MLPs are
random, so that methods which train weights have something to train.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import torch
from torch import Tensor

from saebench.stats.rng import generator
from saebench.synthetic.planted.directions import BIAS
from saebench.synthetic.planted.truth import EPS, Planted
from saebench.synthetic.planted.words import BOS, EOS, SPECIAL, UNKNOWN, Vocabulary

_INNER = 64  # the width of the MLPs
_POSITIONS = 512


def config(planted: Planted) -> dict[str, Any]:
    """Return the config of the model, as transformers reads it."""
    vocab, d = planted.readout.shape
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": d,
        "intermediate_size": _INNER,
        "num_hidden_layers": 2,
        "num_attention_heads": 1,
        "num_key_value_heads": 1,
        "head_dim": d,
        "vocab_size": vocab,
        "hidden_act": "silu",
        "max_position_embeddings": _POSITIONS,
        "rms_norm_eps": EPS,
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": False,
        "bos_token_id": BOS,
        "eos_token_id": EOS,
        "pad_token_id": EOS,
        "torch_dtype": "float32",
    }


def weights(planted: Planted, readers: Tensor, seed: int) -> dict[str, Tensor]:
    """Return the weights of the model.

    Args:
        planted: The features.
        readers: Vectors whose products with a token's direction are what it tells of, ``[concepts, d]``.
        seed: The seed of the weights that write nothing.
    """
    vocab, d = planted.readout.shape
    scale = np.sqrt((1 + BIAS**2) / d)  # the root mean square of every embedding, which the first norm divides by
    values = torch.zeros(d, d)
    values[: len(readers)] = readers
    outputs = torch.zeros(d, d)
    outputs[:, : len(readers)] = (planted.gain[:, None] * planted.directions[vocab:]).T
    out = {
        "model.embed_tokens.weight": planted.directions[:vocab] + planted.bias,
        "model.norm.weight": torch.ones(d),
        "lm_head.weight": planted.readout,
    }
    for layer in range(2):
        name, nothing = f"model.layers.{layer}", torch.zeros(d, d)
        rng = generator(seed, "planted:inner", "", layer)
        first = [rng.standard_normal((_INNER, d), dtype=np.float32) / np.float32(np.sqrt(d)) for _ in range(2)]
        out |= {
            f"{name}.input_layernorm.weight": torch.full((d,), float(scale)),
            f"{name}.post_attention_layernorm.weight": torch.ones(d),
            f"{name}.self_attn.q_proj.weight": nothing,
            f"{name}.self_attn.k_proj.weight": nothing,
            f"{name}.self_attn.v_proj.weight": values if layer == 0 else nothing,
            f"{name}.self_attn.o_proj.weight": outputs if layer == 0 else nothing,
            f"{name}.mlp.gate_proj.weight": torch.from_numpy(first[0]),
            f"{name}.mlp.up_proj.weight": torch.from_numpy(first[1]),
            f"{name}.mlp.down_proj.weight": torch.zeros(d, _INNER),
        }
    return {key: tensor.float().clone().contiguous() for key, tensor in out.items()}


def tokenizer_files(vocabulary: Vocabulary) -> dict[str, bytes]:
    """Return the files of the tokenizer. Words are divided by white space; decoding puts a space before each."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

    numbers = {(token if n < len(SPECIAL) else f"▁{token}"): n for n, token in enumerate(vocabulary.tokens)}
    tokenizer = Tokenizer(models.WordLevel(numbers, unk_token=SPECIAL[UNKNOWN]))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="always")]
    )
    tokenizer.decoder = decoders.Sequence([decoders.Replace(Regex("▁"), " "), decoders.Fuse()])
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    bos, eos, unknown = SPECIAL
    about = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": bos,
        "eos_token": eos,
        "unk_token": unknown,
        "pad_token": eos,
        "clean_up_tokenization_spaces": False,
        "model_max_length": _POSITIONS,
    }
    return {"tokenizer.json": tokenizer.to_str(pretty=True).encode(), "tokenizer_config.json": as_json(about)}


def as_json(content: Any) -> bytes:
    """Return content as JSON with a new line at its end."""
    return (json.dumps(content, ensure_ascii=False, indent=1) + "\n").encode()
