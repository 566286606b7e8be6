"""References to groups of SAEs: what they may say, and what is wrong in one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saebench.errors import SaebenchError, UsageError
from saebench.sae import zoo
from saebench.sae.group_ref import (
    SAEGroupRef,
    parse_sae_group,
    predefined_groups,
    seed_groups,
    size_groups,
    written_in_group,
)
from saebench.sae.reference import parse_sae_ref

A, B = "baseline:random?d_sae=64&l0=8&seed=1", "baseline:random?d_sae=64&l0=8&seed=2"


def names(group: SAEGroupRef) -> list[str]:
    return [str(member) for member in group.members]


def test_members_in_the_order_given():
    group = parse_sae_group(f" mine = {B} ,{A}")
    assert (group.name, names(group)) == ("mine", [B, A])
    assert str(group) == f"mine={B},{A}"
    assert group != parse_sae_group(f"mine={A},{B}")


def test_commas_inside_parentheses_and_in_values_belong_to_a_reference(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a,b").mkdir()
    inner = "baseline:permuted-decoder(baseline:permuted-decoder(sae_lens:a,b))?seed=3"
    site = "baseline:neurons?hook=blocks.1%2C2"
    group = parse_sae_group(f"g={inner},{site},baseline:neurons")
    assert names(group) == [inner, site, "baseline:neurons"]
    assert dict(group.members[1].options) == {"hook": "blocks.1,2"}
    assert parse_sae_group(str(group)) == group


def test_different_writings_of_one_sae_are_one():
    with pytest.raises(UsageError, match=r"'g' names baseline:random\?d_sae=64&l0=8&seed=1 twice"):
        parse_sae_group(f"g={A},baseline:random?seed=1&l0=8&d_sae=64")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"g={A}", "group 'g' has one SAE; a group needs two SAEs or more"),
        (f"g={A},{B},{A}", "names baseline:random.* twice"),
        (f"={A},{B}", "must begin with a name"),
        (f"{A},{B}", "must begin with a name"),
        ("", "must begin with a name"),
        (f"my group={A},{B}", "must begin with a name"),
        ("g=", "SAE reference ''"),
        (f"g={A},", "SAE reference ''"),
        (f"g={A},zo:x", "Did you mean 'zoo'"),
        ("g=baseline:permuted-decoder(baseline:pca,baseline:neurons", "There is no baseline:permuted-decoder"),
        ("randm", r"no SAE group 'randm'\. Did you mean 'random'\? Known are .*random"),
        ("topk-k31", "Did you mean 'topk-k32'"),
    ],
)
def test_what_is_wrong_is_named(text: str, message: str):
    with pytest.raises(UsageError, match=message) as caught:
        parse_sae_group(text)
    assert "\n" not in str(caught.value)


@given(st.text(alphabet="ab=,:()?&%. zoo", max_size=40))
def test_any_text_is_a_group_or_one_sentence(text: str):
    try:
        group = parse_sae_group(text)
    except SaebenchError:
        return
    assert parse_sae_group(str(group)) == group


@given(st.lists(st.sampled_from([A, B, "baseline:pca", f"baseline:permuted-decoder({A})"]), min_size=2, unique=True))
def test_the_canonical_form_parses_to_an_equal_reference(refs: list[str]):
    group = parse_sae_group(f"g={','.join(refs)}")
    assert names(group) == refs
    assert parse_sae_group(str(group)) == group


def test_predefined_groups():
    assert {name: names(group) for name, group in predefined_groups().items()} == {
        "topk-k32": ["zoo:topk-k32-s0", "zoo:topk-k32-s1", "zoo:topk-k32-s2"],
        "random": [f"baseline:random?d_sae=2048&l0=32&seed={seed}" for seed in range(3)],
        "zoo-sparsity": ["zoo:topk-k32-s0", "zoo:topk-k64-s0"],
    }
    assert [group.name for group in seed_groups()] == ["topk-k32", "random"]
    assert parse_sae_group("topk-k32") == seed_groups()[0]


def test_a_zoo_of_other_saes(monkeypatch: pytest.MonkeyPatch):
    cards = {"a-0": {"group": "a"}, "lone": {"group": "b"}, "a-1": {"group": "a"}, "none": {}}
    monkeypatch.setattr(zoo, "zoo_index", lambda: cards)
    assert zoo.zoo_groups() == {"a": ("a-0", "a-1")}
    assert list(predefined_groups()) == ["a", "random"]
    assert size_groups() == []


def test_members_are_references(tmp_path):
    assert parse_sae_group(f"g={A},{B}").members == (parse_sae_ref(A), parse_sae_ref(B))


@pytest.mark.parametrize("folder", ["a,b", "a%2Cb", "a%b", "a%20b", "a(b),c"])
def test_a_comma_in_the_name_of_a_folder(tmp_path: Path, folder: str) -> None:
    (tmp_path / folder).mkdir()
    member = written_in_group(f"sae_lens:{tmp_path}/{folder}?hook=x%2Cy")
    group = parse_sae_group(f"g={member},baseline:pca")
    assert (group.members[0].body, dict(group.members[0].options)) == (f"{tmp_path}/{folder}", {"hook": "x,y"})
    assert parse_sae_group(str(group)) == group


def test_what_is_inside_parentheses_stays_as_it_is() -> None:
    text = "g=baseline:permuted-decoder(baseline:pca?k=3),baseline:pca?hook=a%2Cb"
    assert str(parse_sae_group(text)) == text
