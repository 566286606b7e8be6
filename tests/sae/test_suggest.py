"""What the refusal of a reference without a scheme suggests, and that a language model given as an SAE is told."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saebench.errors import UsageError
from saebench.runner.plan import make_plan
from saebench.runner.request import make_request
from saebench.sae import zoo
from saebench.sae.recognise import file_to_name, recognise
from saebench.sae.reference import parse_sae_ref
from saebench.sae.suggest import about_model, about_sae
from tests.sae.affine.examples import EXAMPLES, weights_file
from tests.sae.affine.files import save
from tests.sae.several.files import EXAMPLES as SEVERAL

HUB = "https://hub.example"
GEMMA = "layer_12/width_16k/average_l0_82"
IN_DIRECTORY = f"sae_lens:gemma-scope-2b-pt-res/{GEMMA}"
ON_HUB = f"hf:google/gemma-scope-2b-pt-res/{GEMMA}"


class TestFolders:
    @pytest.mark.parametrize("name", list(EXAMPLES))
    def test_every_format_with_a_map(self, name: str, tmp_path: Path):
        example = EXAMPLES[name](tmp_path)
        assert recognise(example.path) == [example.format]
        assert recognise(weights_file(example)) == [example.format]
        with pytest.raises(UsageError, match=r"names no scheme\. Did you mean") as error:
            parse_sae_ref(str(example.path))
        assert f"'{example.format}:{example.path}'" in str(error.value)

    @pytest.mark.parametrize("name", [name for name in SEVERAL if name != "finetuning-old-pickle"])
    def test_every_format_of_several_hook_points(self, name: str, tmp_path: Path):
        example = SEVERAL[name](tmp_path)
        assert recognise(tmp_path) == [example.reference.partition(":")[0]]

    def test_a_folder_of_saelens(self):
        folder = zoo.ZOO_DIR / "topk-k32-s0"
        assert recognise(folder) == ["sae_lens"]
        assert about_sae(f"{folder}?hook=a") == f"Did you mean 'sae_lens:{folder}?hook=a'?"

    def test_a_set_of_files_of_which_one_must_be_named(self, tmp_path: Path):
        names = ("W_enc", "W_dec", "b_enc", "b_dec")
        for layer in (0, 1):
            save(tmp_path / f"layer{layer}.sae.pt", {name: weights_file_content(name) for name in names})
        assert recognise(tmp_path) == ["qwen_scope"]
        assert file_to_name(tmp_path, "qwen_scope") == tmp_path / "layer0.sae.pt"
        assert about_sae(str(tmp_path)) == f"Did you mean 'qwen_scope:{tmp_path}/layer0.sae.pt'?"

    def test_what_several_formats_may_be(self, tmp_path: Path):
        for kind in ("goodfire", "qresearch"):
            EXAMPLES[kind](tmp_path)
        (tmp_path / "sae.bin").write_bytes(b"nothing")
        assert recognise(tmp_path / "sae.bin") == []
        assert "no format that saebench recognises" in about_sae(str(tmp_path / "sae.bin"))

    def test_a_folder_of_a_language_model(self, tiny_gpt2_dir: Path):
        assert recognise(tiny_gpt2_dir) == []
        assert f"give it as --model {tiny_gpt2_dir}" in about_sae(str(tiny_gpt2_dir))

    @pytest.mark.parametrize("text", ["./missing", "/no/such/folder", "~/missing", "~nobody/x", "ae.pt", "../a.npz"])
    def test_what_is_missing_is_said_to_be_missing(self, text: str):
        assert about_sae(text) == f"There is no file or folder {text} on this machine."

    @pytest.mark.parametrize("body", ["./missing", "/no/such/folder", "~/missing", "~nobody/missing", "tests/missing"])
    def test_a_missing_folder_is_never_looked_for_on_the_hub(self, body: str):
        for scheme in ("sae_lens", "sparsify"):
            with pytest.raises(UsageError, match=r"does not exist|there is no file or folder"):
                parse_sae_ref(f"{scheme}:{body}")


def weights_file_content(name: str):
    import torch

    return {"W_enc": torch.ones(6, 4), "W_dec": torch.ones(4, 6), "b_enc": torch.ones(6), "b_dec": torch.ones(4)}[name]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("topk-k32-s0", "Did you mean 'zoo:topk-k32-s0'?"),
        ("topk-k32-s00", "Did you mean 'zoo:topk-k32-s0'?"),
        (f"{HUB}/google/gemma-scope-2b-pt-res/tree/main/{GEMMA}", f"Did you mean '{IN_DIRECTORY}' or '{ON_HUB}'?"),
        (f"google/gemma-scope-2b-pt-res/{GEMMA}", f"Did you mean '{IN_DIRECTORY}' or '{ON_HUB}'?"),
        (f"{HUB}/o/r/tree/v1.0/a%20b/c/", "Did you mean 'hf:o/r@v1.0/a b/c'?"),
        (f"{HUB}/o/r/blob/main/x/ae.pt?download=true", "Did you mean 'hf:o/r/x/ae.pt'?"),
        ("o/r@abc/x", "Did you mean 'hf:o/r@abc/x'?"),
        ("gpt2-small-res-jb/blocks.8.hook_resid_pre", "'sae_lens:gpt2-small-res-jb/blocks.8.hook_resid_pre'"),
        ("gpt2-small-res-jb/blocks.8.hook_resid_pr", "'sae_lens:gpt2-small-res-jb/blocks.8.hook_resid_pre'"),
        ("gpt2-small-res-jb", "such as sae_lens:gpt2-small-res-jb/blocks."),
        ("google/gemma-scope-2b-pt-res", "write hf:google/gemma-scope-2b-pt-res/PATH"),
        ("gemma-3-270m", "is a language model, and not an SAE; give it as --model asset:gemma-3-270m."),
        ("asset:gemma-3-270m", "give it as --model asset:gemma-3-270m. `saebench saes --search gemma-3-270m`"),
        ("google/gemma-2-2b", "is a language model, and not an SAE; give it as --model hf:google/gemma-2-2b."),
        ("gemma-2-2b", "give it as --model hf:google/gemma-2-2b."),
        (f"{HUB}/google/gemma-3-4b-pt", "give it as --model hf:google/gemma-3-4b-pt."),
        ("someone/something", "write hf:someone/something/PATH; if it is a language model, give it as --model hf:some"),
    ],
)
def test_names_and_addresses(text: str, expected: str):
    assert expected in about_sae(text)
    with pytest.raises(UsageError, match="names no scheme"):
        parse_sae_ref(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("zoo:topk-k32-s0", "is an SAE, and not a language model; give it as --sae zoo:topk-k32-s0"),
        ("topk-k32-s0", "give it as --sae zoo:topk-k32-s0"),
        (str(zoo.ZOO_DIR / "topk-k32-s0"), f"give it as --sae sae_lens:{zoo.ZOO_DIR / 'topk-k32-s0'}"),
        ("gemma-3-270m", "Did you mean 'asset:gemma-3-270m'?"),
        ("google/gemma-2-2b", "Did you mean 'hf:google/gemma-2-2b'?"),
        (f"{HUB}/google/gemma-2-2b/tree/abc", "Did you mean 'hf:google/gemma-2-2b@abc'?"),
    ],
)
def test_an_sae_or_a_bare_name_as_the_language_model(text: str, expected: str):
    assert expected in about_model(text)
    with pytest.raises(UsageError, match="model") as error:
        make_plan(make_request({"sae": ["baseline:pca"], "model": text}))
    assert expected in str(error.value)


@given(st.text() | st.builds("".join, st.lists(st.sampled_from([*"/.:?%~@-", "a", "zoo", "https://", ".pt", "\0"]))))
def test_any_text_gives_a_sentence_or_nothing(text: str):
    for about in (about_sae, about_model):
        assert "\n" not in about(text)


def test_recognising_needs_no_torch():
    import subprocess

    code = (
        "import sys; from saebench.sae.suggest import about_sae; from saebench.sae import zoo;"
        "print(about_sae(str(zoo.ZOO_DIR / 'topk-k32-s0'))); print(sorted({'torch', 'sae_lens'} & set(sys.modules)))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.splitlines()[0].startswith("Did you mean 'sae_lens:")
    assert said.splitlines()[1] == "[]"
