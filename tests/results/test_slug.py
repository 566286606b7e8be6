from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saebench.results.slug import MAX_LENGTH, slug

WINDOWS_RESERVED = {"con", "prn", "aux", "nul", *(f"com{i}" for i in range(10)), *(f"lpt{i}" for i in range(10))}
NASTY = [
    "", ".", "..", "...", "../..", "/", "\\", "C:\\x", "con", "CON", "Con.txt", "nul.tar.gz", "COM1", "lpt9.x",
    "aux ", "a" * 300, "a" * 299 + "b", "a" * 64, "a" * 65, "name.", "name ", " name", "-rf", "~root", ".hidden",
    "a\0b", "a\nb", "a/b", "a:b", "a|b", "a?b", "a*b", 'a"b', "a<b>", "é", "e\u0301", "文件", "\ud800", "Name", "name",
    "NAME", "x~12345678",
    "blocks.9.hook_resid_post", "zoo:topk-k32-s0", "python:pkg.module:factory", "sae_lens:/home/me/SAE dir/",
]  # fmt: skip

wild = st.one_of(st.sampled_from(NASTY), st.text(max_size=400), st.text("aA./:~-_c", max_size=70))


def assert_safe(name: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._~-]*", name)
    assert len(name) <= MAX_LENGTH
    assert not name.endswith((".", " "))
    assert name.split(".")[0].lower() not in WINDOWS_RESERVED


@given(wild)
def test_any_name_becomes_a_safe_folder_name(name):
    assert_safe(slug(name))


@given(st.lists(wild, unique=True, max_size=30))
def test_different_names_differ_even_where_case_does_not_count(names):
    assert len({slug(name).lower() for name in names}) == len(names)


def test_the_nasty_names_all_differ_and_are_safe():
    slugs = [slug(name) for name in NASTY]
    for name in slugs:
        assert_safe(name)
    assert len({name.lower() for name in slugs}) == len(NASTY)


@given(wild)
def test_a_slug_of_a_slug_does_not_collide_with_it(name):
    changed = slug(name)
    assert changed == name or slug(changed) != changed


@pytest.mark.parametrize("name", ["core", "blocks.9.hook_resid_post", "a-b_c.d", "0"])
def test_plain_names_stay(name):
    assert slug(name) == name


def test_a_changed_name_stays_readable():
    assert slug("zoo:topk-k32-s0") == "zoo-topk-k32-s0~da2eb74c"
