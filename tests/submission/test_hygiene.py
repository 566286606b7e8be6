from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saebench.submission.hygiene import findings, strings

# Put together here, so that no scanner takes this file for a leak.
TOKENS = [
    "hf_" + "aB3" * 11,
    "ghp_" + "x1" * 18,
    "github_pat_" + "A1" * 20,
    "sk-" + "proj-" + "a1" * 12,
    "AKIA" + "A1" * 8,
]


@pytest.mark.parametrize("token", TOKENS)
@pytest.mark.parametrize("around", ["{}", "token={}", "hf:org/name?token={}&x=1", "see\n{}."])
def test_tokens(token: str, around: str):
    [finding] = findings(around.format(token))
    assert "token" in finding
    assert token not in finding  # what is found must not be spread further


@pytest.mark.parametrize(
    "text",
    [
        "/home/someone/saes/topk",
        "sae_lens:/home/someone/sae",
        "python:/srv/x/factory.py:build",
        "jsonl:/a/b.jsonl",
        "baseline:permuted-decoder(sae_lens:/mnt/disk/sae)",
        "FileNotFoundError: '/scratch/run 1/x'",
        "/tmp",
        "~/saes/topk",
        "sae_lens:~someone/sae",
        r"C:\Users\someone\sae",
        "sae_lens:D:/saes/topk",
        r"\\server\share\sae",
        "file:///etc/passwd",
        "$HOME/sae",
        r"%UserProfile%\sae",
    ],
)
def test_paths(text: str):
    [finding] = findings(text)
    assert "a path of one machine" in finding


def test_addresses_and_passwords():
    [address] = findings("ask jane.doe@example.org about it")
    assert "e-mail" in address
    assert any("password" in finding for finding in findings("https://jane:secret@example.org/x"))


@pytest.mark.parametrize(
    "text",
    [
        "zoo:topk-k32-s0",
        "sae_lens:gemma-scope-2b-pt-res-canonical/layer_12/width_16k/canonical",
        "hf:google/gemma-2-2b",
        "hf:google/gemma-2-2b@v1.0",
        "asset:sae-probes/97_news_class",
        "baseline:random?d_sae=2048&l0=32",
        "baseline:permuted-decoder(zoo:topk-k32-s0)",
        "blocks.9.hook_resid_post",
        "https://example.org/a/b/c.html",
        "Linux-6.1.0-x86_64-with-glibc2.36",
        "2.13.0+cpu",
        "cuda:0 (NVIDIA A100-SXM4-80GB)",
        "nats/token, 1/2, and/or, a / b",
        "task-relevant-scikit-learn-1234567890-risk-analysis-2024",
        "ab" * 32,
        "",
    ],
)
def test_what_records_hold_anyway(text: str):
    assert list(findings(text)) == []


def test_strings_of_a_json_value():
    value = {"a": ["x", {"b": "y"}], "n": 1, "none": None}
    assert list(strings(value)) == [("", "a"), ("a[0]", "x"), ("a[1]", "b"), ("a[1].b", "y"), ("", "n"), ("", "none")]


@given(before=st.text(), token=st.sampled_from(TOKENS), after=st.text())
def test_a_token_is_found_in_any_text(before: str, token: str, after: str):
    found = list(findings(f"{before} {token} {after}"))
    assert any("token" in finding for finding in found)
    assert not any(token in finding for finding in found)


@pytest.mark.parametrize(
    "unit", ["a", "a.", "a@", "sk-", "=/", "=/a", "~", ":~a", "-----BEGIN ", "://a:", "hf_", "\\\\a", " "]
)
def test_long_texts_take_no_longer_than_their_length(unit: str):
    """With a pattern that starts again at every letter, this would take minutes."""
    list(findings(unit * (300_000 // len(unit))))
