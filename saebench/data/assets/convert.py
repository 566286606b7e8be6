"""The conversion of a GGUF to a Hugging Face folder (safetensors, float32).

It is made once, because loading a model from GGUF takes tens of seconds each time.
"""

from __future__ import annotations

import sys
from pathlib import Path

from saebench.data.assets.fetch import run_watched
from saebench.data.assets.guard import guarded
from saebench.errors import AssetError
from saebench.progress import Progress


def convert_in_subprocess(gguf: Path, dest: Path, progress: Progress) -> None:
    """Convert in a process of its own, so that its memory, which is several times the model's, is freed afterwards.

    Args:
        gguf: The file to convert.
        dest: The folder to write.
        progress: Receives the progress.

    Raises:
        AssetError: The conversion fails.
    """
    command = guarded("saebench.data.assets.convert", str(gguf), str(dest))
    with progress.task(f"converting {gguf.name} to safetensors, once (a minute or two)") as ticker:
        code, output = run_watched(
            command, {"HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore"}, watch=lambda: ticker.advance(0)
        )
    if code != 0:
        lines = [line.strip() for line in output.splitlines() if line.strip()]
        raise AssetError(f"Cannot convert {gguf.name} to safetensors: {lines[-1] if lines else f'exit code {code}'}")


def convert_gguf(gguf: Path, dest: Path) -> None:
    """De-quantise ``gguf`` to float32, and write the model and its tokenizer to the folder ``dest``."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = {"gguf_file": gguf.name, "trust_remote_code": False}
    model = AutoModelForCausalLM.from_pretrained(gguf.parent, dtype=torch.float32, **source)
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, **source)
    # The weights are plain floats now, but transformers refuses to save a model that still has a GGUF quantizer.
    model.hf_quantizer = None
    model.config.__dict__.pop("quantization_config", None)
    model.save_pretrained(dest)
    tokenizer.save_pretrained(dest)


if __name__ == "__main__":
    convert_gguf(Path(sys.argv[1]), Path(sys.argv[2]))
