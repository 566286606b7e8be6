"""A planted model: what is said to be known of it must be true of the transformer and of the texts in its folder."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from saebench.errors import ModelError, UsageError
from saebench.lm.load import load_lm
from saebench.lm.model import LanguageModel
from saebench.scorers import language_identifier, toxicity_scorer
from saebench.synthetic.planted import SITE, Planted, load_planted, load_process, make, measure, overrides, verify
from saebench.synthetic.planted.process import Process
from saebench.synthetic.planted.readout import documents
from saebench.synthetic.planted.truth import MANIFEST, TENSORS, with_first
from saebench.synthetic.planted.words import SPECIAL, SUBTOPIC, TOPIC, TOXIC


@pytest.fixture(scope="module")
def lm(folder: Path) -> LanguageModel:
    return load_lm(str(folder), device=torch.device("cpu"), dtype=torch.float32)


@pytest.fixture(scope="module")
def tokens(process: Process) -> Tensor:
    return with_first(documents(process, 20, "test")[0])


def rows(folder: Path, name: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


def test_the_transformer_computes_the_sum_of_the_features(lm: LanguageModel, planted: Planted, tokens: Tensor):
    got = lm.prefix(tokens, [SITE, "blocks.1.hook_resid_post"])
    expected = planted.activations(tokens)
    for site in got:
        assert_close(got[site], expected, atol=1e-4, rtol=0)
    logits = lm.head.logits(lm.full(tokens))[..., : planted.n_tokens]
    assert_close(logits, planted.logits(expected), atol=2e-3, rtol=0)


def test_features_are_in_superposition(planted: Planted):
    cosines = (planted.directions @ planted.directions.T).fill_diagonal_(0)
    assert planted.n_features > 2 * planted.directions.shape[1]
    assert float(cosines.abs().max()) < 0.6
    assert_close(planted.directions.norm(dim=-1), torch.ones(planted.n_features), atol=1e-4, rtol=0)
    assert_close(planted.directions @ planted.bias, torch.zeros(planted.n_features), atol=1e-4, rtol=0)


def test_features_are_not_negative_and_children_fire_with_their_parents(planted: Planted, tokens: Tensor):
    features = planted.features(tokens)[:, 1:].flatten(0, 1)
    assert bool((features >= 0).all())
    children = (planted.parents >= 0).nonzero()[:, 0]
    fires = features > 0
    assert bool(fires[:, children].any())
    assert not bool((fires[:, children] & ~fires[:, planted.parents[children]]).any())


def test_the_model_predicts_better_than_frequencies_and_no_better_than_the_process(folder: Path):
    quality = measure(folder)
    assert quality.entropy < quality.loss < quality.unigram
    assert quality.unigram - quality.loss > 0.7 * (quality.unigram - quality.entropy)


def test_what_a_feature_tells_is_lost_without_it_and_other_things_are_not(planted: Planted, process: Process):
    words, rng = process.vocabulary, np.random.default_rng(0)
    states = process.states(100, rng)
    states = replace(states, language=np.zeros_like(states.language), toxic=np.ones_like(states.toxic))
    states = replace(states, topic=np.zeros_like(states.topic), subtopic=np.zeros_like(states.subtopic))
    text = with_first(process.draw(states, words.recipe.words, rng))
    kind, owner, is_word = words.kind[words.lemma], words.owner[words.lemma], words.lemma >= 0
    told = {
        "topic:0": is_word & (kind == TOPIC) & (owner == 0),
        "language:el": words.language == 0,
        "tone:toxic": is_word & (kind == TOXIC),
    }
    x, a = planted.activations(text)[:, 10:], planted.features(text)[:, 10:]

    def shares(x: Tensor) -> dict[str, float]:
        """Return how probable the words are that each feature tells of."""
        p = torch.softmax(planted.logits(x), dim=-1)
        return {name: float(p[..., torch.from_numpy(chosen)].sum(-1).mean()) for name, chosen in told.items()}

    before = shares(x)
    for name in told:
        feature = planted.index(name)
        after = shares(x - a[..., feature, None] * planted.directions[feature])
        lost = {other: 1 - after[other] / before[other] for other in told}
        assert lost[name] > 0.5
        assert all(lost[other] < 0.8 * lost[name] for other in told if other != name), (name, lost)


def test_a_document_without_a_topic_has_none_of_its_words(process: Process):
    words, rng = process.vocabulary, np.random.default_rng(0)
    states = process.states(400, rng)
    none = states.topic < 0
    assert abs(none.mean() - words.recipe.no_topic) < 0.1
    assert np.array_equal(states.subtopic < 0, none)
    kind = words.kind[words.lemma[process.draw(states.rows(none), 20, rng)]]
    assert not np.isin(kind, (TOPIC, SUBTOPIC)).any()


def test_without_its_topic_the_model_predicts_what_documents_without_one_have(planted: Planted, process: Process):
    """It has seen such documents, so that taking a topic out costs the other words nothing."""
    words, rng = process.vocabulary, np.random.default_rng(0)
    states = process.states(200, rng)
    states = replace(states, topic=np.ones_like(states.topic), subtopic=np.full_like(states.subtopic, 2))
    tokens = process.draw(states, words.recipe.words, rng)
    after = torch.from_numpy(tokens[:, 10:])
    topical = torch.from_numpy(np.isin(words.kind[words.lemma[tokens[:, 10:]]], (TOPIC, SUBTOPIC)))
    x, a = planted.activations(with_first(tokens))[:, 10:-1], planted.features(with_first(tokens))[:, 10:-1]
    taken = [planted.index(name) for name in ("topic:1", "subtopic:1.0", "subtopic:1.1")]

    def loss(x: Tensor) -> Tensor:
        return -torch.log_softmax(planted.logits(x), dim=-1).gather(-1, after[..., None])[..., 0]

    rise = loss(x - a[..., taken] @ planted.directions[taken]) - loss(x)
    assert float(rise[topical].mean()) > 1
    assert float(rise[~topical].mean()) < 0


def test_probabilities_are_those_of_the_drawn_words(process: Process):
    tokens, states = documents(process, 400, "frequencies")
    expected = np.zeros(len(process.vocabulary.tokens))
    for place in range(1, 6):
        p = process.token_probabilities(states, tokens[:, place - 1])
        assert_close(p.sum(1), np.ones(len(p)))
        expected += p.sum(0)
    seen = np.bincount(tokens[:, 1:6].ravel(), minlength=len(expected))
    assert np.abs(seen - expected).max() < 5 * np.sqrt(expected.max())
    assert not seen[expected == 0].any()


def test_words_are_tokens_and_come_back(folder: Path, lm: LanguageModel):
    text = str(rows(folder, "documents")[0]["text"])
    ids = lm.tokenizer(text, add_special_tokens=False)["input_ids"]
    assert len(ids) == len(text.split())
    assert min(ids) >= len(SPECIAL)
    assert lm.tokenizer.decode(ids) == f" {text}"  # a continuation can be appended to its prompt


def test_scorers_know_the_words(folder: Path, process: Process):
    sentences = rows(folder, "parallel")
    languages = process.vocabulary.languages
    identify = language_identifier("py3langid", languages)
    for code in languages:
        assert set(identify([str(row[code]) for row in sentences])) == {code}
    labelled = rows(folder, "labelled-toxic")
    scores = toxicity_scorer("profanity-check")([str(row["prompt"]) for row in labelled])
    toxic = np.array([row["target"] == 1 for row in labelled])
    assert scores[toxic].mean() > 0.8
    assert scores[~toxic].max() < 0.5


def test_right_answers_are_of_the_topic_of_the_question(folder: Path, process: Process):
    words = process.vocabulary
    number = {token: place for place, token in enumerate(words.tokens)}
    topics = [k for k, name in enumerate(words.concepts) if name.startswith("topic:")]
    for name, forgotten in (("forget-questions", True), ("retain-questions", False)):
        golds = Counter()
        for row in rows(folder, name):
            told = words.evidence[[number[word] for word in str(row["question"]).split()]][:, topics].sum(0)
            of_choice = [int(words.evidence[number[choice]][topics].argmax()) for choice in row["choices"]]
            gold = of_choice[row["answer"]]
            assert of_choice.count(gold) == 1
            assert not told.any() or told.argmax() == gold
            assert (gold == 1) == forgotten
            golds[row["answer"]] += 1
        assert len(golds) == 4


def test_forgotten_documents_are_of_one_topic_and_others_are_not(folder: Path, process: Process):
    words = process.vocabulary
    number = {token: place for place, token in enumerate(words.tokens)}
    feature = words.concepts.index("topic:1")

    def share(name: str) -> float:
        texts = [[number[word] for word in str(row["text"]).split()] for row in rows(folder, name)]
        return float(np.mean([words.evidence[text][:, feature].any() for text in texts]))

    assert share("forget") > 0.99
    assert share("retain") == 0


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(folder: Path, tmp_path: Path):
    again, other = make(tmp_path / "again", "tiny", seed=0), make(tmp_path / "other", "tiny", seed=1)
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    assert names == sorted(str(path.relative_to(again)) for path in again.rglob("*") if path.is_file())
    assert all((folder / name).read_bytes() == (again / name).read_bytes() for name in names)
    assert (folder / "model.safetensors").read_bytes() != (other / "model.safetensors").read_bytes()
    assert load_planted(again).content_hash == load_planted(folder).content_hash != load_planted(other).content_hash


def test_a_changed_file_is_found(folder: Path, tmp_path: Path):
    verify(folder)
    copied = Path(shutil.copytree(folder, tmp_path / "copy"))
    (copied / "documents.jsonl").write_text("{}")
    with pytest.raises(ModelError, match=r"documents\.jsonl .* has changed; make the model again"):
        verify(copied)
    (copied / MANIFEST).write_text("[]")
    with pytest.raises(ModelError, match="must hold an object"):
        verify(copied)
    (copied / TENSORS).unlink()
    with pytest.raises(ModelError, match="holds no planted language model"):
        load_planted(copied)
    (copied / "planted.json").write_text('{"recipe": "huge"}')
    with pytest.raises(ModelError, match="holds no planted model of this version"):
        load_process(copied)


def test_errors_name_what_there_is(folder: Path, tmp_path: Path):
    with pytest.raises(UsageError, match=r"no recipe 'smal'.*Did you mean 'small'"):
        make(tmp_path, "smal")
    with pytest.raises(UsageError, match=r"no settings of 'detoxx'.*Did you mean 'detox'"):
        overrides(folder, "detoxx")
