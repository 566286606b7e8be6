import contextlib
import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saebench.data.heldout import is_zoo_text
from saebench.data.labelled import Labelled, load_labelled, load_shifted, split_labelled
from saebench.data.labelled_ref import AssetLabels, FileLabels, WordLabels, parse_labelled_ref
from saebench.errors import DataError, UsageError


@pytest.fixture
def jsonl(tmp_path):
    def write(rows, name="data.jsonl"):
        path = tmp_path / name
        path.write_text("".join(json.dumps({"prompt": p, "target": t}) + "\n" for p, t in rows))
        return f"jsonl:{path}"

    return write


def made(counts, ref="made"):
    labels = np.repeat(np.arange(len(counts)), counts)
    return Labelled(ref, [f"text {i}" for i in range(len(labels))], labels, tuple(map(str, range(len(counts)))))


# ------------------------------------------------------------------ references


def test_parse(tmp_path):
    path = tmp_path / "a?words=b.csv"
    path.touch()
    news = "asset:sae-probes/97_news_class"
    assert parse_labelled_ref(news) == AssetLabels("97_news_class")
    assert parse_labelled_ref(f"csv:{path}") == FileLabels(path, "csv")
    assert parse_labelled_ref(f"words:{news}") == WordLabels(news)
    assert parse_labelled_ref(f"words:{news}?words=time,été") == WordLabels(news, ("time", "été"))


@pytest.mark.parametrize(
    ("ref", "message"),
    [
        ("97_news_class", "Unknown reference to labelled data"),
        ("cvs:x", r"Did you mean 'csv'\?"),
        ("csv:", "names nothing"),
        ("csv:/nowhere/x.csv", "does not exist"),
        ("jsonl:" + "x" * 5000, "does not exist"),
        ("asset:sae-probes/97_new_class", r"Did you mean '97_news_class'\?"),
        ("asset:gemma-3-270m", "holds no labels"),
        ("words:97_news_class", "Unknown text reference"),
        ("words:asset:sae-probes/97_news_class?words=one", "two or more different words"),
        ("words:asset:sae-probes/97_news_class?words=a,a", "two or more different words"),
        ("words:asset:sae-probes/97_news_class?words=a,b c", "two or more different words"),
    ],
)
def test_bad_references_are_usage_errors(ref, message):
    with pytest.raises(UsageError, match=message):
        parse_labelled_ref(ref)


@given(st.text(max_size=40))
def test_parsing_never_fails_in_another_way(ref):
    for text in (ref, f"asset:{ref}", f"csv:/nowhere/{ref}", f"words:{ref}", f"words:hf:x?words={ref}"):
        with contextlib.suppress(UsageError):
            parse_labelled_ref(text)


# ------------------------------------------------------------------ what is kept


def test_order_kept_and_what_is_dropped_is_counted(jsonl):
    rows = [("b", "x"), (" ", "x"), ("a", "y"), ("b", "x"), ("c", "x"), ("c", "y"), ("c", "x"), ("a\n", "y"), ("", "z")]
    data = load_labelled(jsonl(rows))
    assert data.texts == ["b", "a"]
    assert data.labels.tolist() == [0, 1]
    assert data.classes == ("x", "y")
    assert data.counts.tolist() == [1, 1]
    assert (data.n_empty, data.n_duplicates, data.n_conflicting, data.n_zoo) == (2, 2, 3, 0)


@given(st.lists(st.tuples(st.sampled_from(["a", " a", "a\t b", "a b", "b", "", "\n"]), st.sampled_from("xyz"))))
def test_no_prompt_is_kept_twice_and_every_row_is_accounted_for(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("data") / "data.jsonl"
    path.write_text("".join(json.dumps({"prompt": p, "target": t}) + "\n" for p, t in rows))
    try:
        data = load_labelled(f"jsonl:{path}")
    except DataError:
        sure = {key: {t for p, t in rows if " ".join(p.split()) == key} for key in ("a", "a b", "b")}
        assert len({*map(frozenset, (names for names in sure.values() if len(names) == 1))}) < 2
        return
    keys = [" ".join(text.split()) for text in data.texts]
    assert len(set(keys)) == len(keys)
    assert len(keys) + data.n_empty + data.n_duplicates + data.n_conflicting == len(rows)
    for key, label in zip(keys, data.labels, strict=True):
        assert {t for p, t in rows if " ".join(p.split()) == key} == {data.classes[label]}


def test_duplicated_prompts_never_land_on_both_sides(jsonl):
    rows = [(f"text{' ' * (1 + i % 3)}{i // 4}", "ab"[i // 4 % 2]) for i in range(80)]
    data = load_labelled(jsonl(rows))
    train, test = split_labelled(data, np.random.default_rng(0), train=10, test=10)
    sides = [{" ".join(data.texts[row].split()) for row in side} for side in (train, test)]
    assert [len(side) for side in sides] == [10, 10]
    assert not sides[0] & sides[1]


def test_classes_are_sorted_numbers_by_value(jsonl):
    assert load_labelled(jsonl([("a", 10), ("b", 9), ("c", 9.0), ("d", 9.5)])).classes == ("9", "9.5", "10")
    assert load_labelled(jsonl([("a", "z"), ("b", "10"), ("c", "9")])).classes == ("10", "9", "z")
    assert load_labelled(jsonl([("a", True), ("b", False)])).classes == ("False", "True")


@pytest.mark.parametrize(
    ("rows", "message"), [([("a", 1), ("b", 1)], "one class"), ([(" ", 1), ("a", 1), ("a", 2)], "no usable example")]
)
def test_fewer_than_two_classes(jsonl, rows, message):
    with pytest.raises(DataError, match=message):
        load_labelled(jsonl(rows))


def test_content_hash_sees_order_content_and_classes(jsonl):
    first = [("a", "x"), ("b", "y")]
    others = [first[::-1], [("a", "y"), ("b", "x")], [("a", "x"), ("c", "y")]]
    hashes = {load_labelled(jsonl(rows)).content_hash for rows in [first, *others]}
    assert len(hashes) == 4
    assert load_labelled(jsonl([*first, ("a", "x")], "other.jsonl")).content_hash in hashes


# ------------------------------------------------------------------ the asset


def test_asset_data_leave_out_what_the_zoo_has_seen(fake_probes):
    rows = [(f"essay {i}", i % 2) for i in range(100)]
    fake_probes.add("cleaned_data/94_ai_gen.csv.zst", rows)
    data = load_labelled("asset:sae-probes/94_ai_gen")
    assert data.n_zoo > 40
    assert data.texts == [text for text, _ in rows if not is_zoo_text(text, "94_ai_gen")]
    assert len(data.texts) + data.n_zoo == 100
    assert data.classes == ("0", "1")


def test_shifted_version_has_the_same_classes_and_no_prompt_twice(fake_probes):
    fake_probes.add("cleaned_data/87_glue_cola.csv.zst", [("a", 0), ("b", 1), ("c", 1)])
    fake_probes.add("OOD data/87_glue_cola_OOD.csv.zst", [("d", 0), ("b ", 1), ("e", 1), ("e", 1)])
    fake_probes.add("cleaned_data/97_news_class.csv.zst", [("a", 0), ("b", 1)])
    base = load_labelled("asset:sae-probes/87_glue_cola")
    shifted = load_shifted(base)
    assert (shifted.texts, shifted.labels.tolist(), shifted.classes) == (["d", "e"], [0, 1], ("0", "1"))
    assert shifted.n_duplicates == 2
    assert load_shifted(load_labelled("asset:sae-probes/97_news_class")) is None
    fake_probes.add("OOD data/87_glue_cola_OOD.csv.zst", [("d", "0"), ("f", "good")])
    with pytest.raises(DataError, match="87_glue_cola_OOD' has the classes"):
        load_shifted(base)


def test_a_target_that_names_no_class_says_which_dataset(fake_probes):
    fake_probes.add("cleaned_data/97_news_class.csv.zst", [("a", "x"), ("b", "")])
    with pytest.raises(DataError, match="asset:sae-probes/97_news_class: the target ''"):
        load_labelled("asset:sae-probes/97_news_class")


# ------------------------------------------------------------------ splits


@given(
    st.lists(st.integers(2, 40), min_size=2, max_size=5),
    st.integers(2, 80),
    st.integers(2, 80),
    st.booleans(),
    st.integers(0, 3),
)
def test_splits_are_disjoint_stratified_and_of_the_size_asked_for(counts, train, test, balanced, seed):
    data = made(counts)
    try:
        sides = split_labelled(data, np.random.default_rng(seed), train=train, test=test, balanced=balanced)
    except UsageError:
        assert min(train, test) < len(counts)
        return
    except DataError:
        fair = -(-(train + test) // len(counts))
        assert min(counts) < fair if balanced else train + test > sum(counts)
        return
    assert [len(side) for side in sides] == [train, test]
    assert len(set(np.concatenate(sides).tolist())) == train + test
    for side in sides:
        found = np.bincount(data.labels[side], minlength=len(counts))
        assert found.min() >= 1
        if balanced:
            assert found.max() - found.min() <= 1
    again = split_labelled(data, np.random.default_rng(seed), train=train, test=test, balanced=balanced)
    assert all(np.array_equal(one, other) for one, other in zip(sides, again, strict=True))


def test_proportions_are_kept():
    data = made([900, 90, 10])
    train, test = split_labelled(data, np.random.default_rng(0), train=200, test=100, balanced=False)
    assert np.bincount(data.labels[train]).tolist() == [180, 18, 2]
    assert np.bincount(data.labels[test]).tolist() == [90, 9, 1]


def test_all_rows_can_be_used():
    data = made([3, 3, 3])
    train, test = split_labelled(data, np.random.default_rng(0), train=5, test=4)
    assert sorted([*train, *test]) == list(range(9))


def test_seeds_draw_differently_and_rows_come_in_random_order():
    data = made([50, 50])
    draws = [split_labelled(data, np.random.default_rng(seed), train=40, test=20)[0] for seed in range(3)]
    assert all(set(one.tolist()) != set(other.tolist()) for one, other in pairwise(draws))
    assert len(set(data.labels[draws[0]][:12].tolist())) == 2


def test_too_few_examples_name_the_class():
    with pytest.raises(DataError, match=r"'made' has 7 examples of class '1', but 10 .* 6 for testing need 8 of it"):
        split_labelled(made([50, 7]), np.random.default_rng(0), train=10, test=6)
    with pytest.raises(UsageError, match="3 classes, so it needs at least 3 training"):
        split_labelled(made([50, 50, 50]), np.random.default_rng(0), train=2, test=6)
