import pytest
from hypothesis import given
from hypothesis import strategies as st

from saebench.data.heldout import SHARED_NAMES, evaluation_documents, is_zoo_text, key, position, zoo_documents
from saebench.data.text import Documents

POOL = "asset:sae-probes/94_ai_gen"
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)


def test_golden_positions():
    """The zoo was trained under this rule: these numbers must never change."""
    assert position("The quick brown fox") == 0.7426236226692445
    assert position("") == 0.8931675160897388


def test_key_ignores_white_space_and_the_tail():
    assert key("  a \n\t b ") == "a b"
    long = "x" * 150
    assert key(long + "one") == key(long + "two") == long
    assert position(" a  b") == position("a b")


@given(texts)
def test_position_is_in_the_unit_interval(text):
    assert 0 <= position(text) <= 1


def test_about_sixty_percent_of_a_pool_file_is_the_zoos():
    shares = [is_zoo_text(f"document {i}", "94_ai_gen") for i in range(5000)]
    assert 0.57 < sum(shares) / len(shares) < 0.63


@pytest.mark.parametrize(
    "file_name",
    ["45_context_ans", "56_wikidatasex_or_gender", "64_x", "160_code_HTML", "112_amzn_rev", "147_d", "163_a"],
)
def test_pool_and_overlapping_files_are_split(file_name):
    verdicts = {is_zoo_text(f"document {i}", file_name) for i in range(50)}
    assert verdicts == {True, False}


@pytest.mark.parametrize("file_name", ["97_news_class", "55_x", "65_high-school", "113_x", "141_x", "148_x", "102_e"])
def test_other_files_are_for_evaluation(file_name):
    assert not any(is_zoo_text(f"document {i}", file_name) for i in range(200))


def test_bare_names_that_are_training_documents_are_excluded_everywhere():
    taken = {name for name in SHARED_NAMES if position(name) < 0.6}
    assert taken
    assert taken != SHARED_NAMES
    assert {name for name in SHARED_NAMES if is_zoo_text(name, "2_hist_fig_birthyear")} == taken


@given(st.lists(texts, unique=True))
def test_the_two_shares_partition_the_documents_in_order(documents):
    both = Documents(POOL, documents, n_empty=2)
    zoo, rest = zoo_documents(both), evaluation_documents(both)
    assert set(zoo.texts).isdisjoint(rest.texts)
    assert sorted(zoo.texts + rest.texts) == sorted(documents)
    assert rest.texts == [text for text in documents if text in set(rest.texts)]
    assert rest.n_zoo == len(zoo.texts)
    assert rest.n_empty == 2


def test_other_sources_are_not_the_zoos():
    documents = Documents("jsonl:mine.jsonl", [f"document {i}" for i in range(50)])
    assert zoo_documents(documents).texts == []
    assert evaluation_documents(documents) == documents
