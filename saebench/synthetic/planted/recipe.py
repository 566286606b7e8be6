"""How large a planted language model is, and the law of its texts."""

from __future__ import annotations

from dataclasses import dataclass

VERSION = 2  # of what a recipe makes; raised when the same recipe gives other bytes


@dataclass(frozen=True)
class Recipe:
    """The sizes of a planted language model and the shares of the kinds of words in its texts.

    Attributes:
        d: The width of the residual stream.
        languages: The number of languages, which have no form of a word in common.
        functions: The number of function words of a language.
        topics: The number of topics. The probability of a topic falls with its rank.
        topic_words: The number of words of each topic, in each language.
        no_topic: The share of documents that have no topic. Without them the model would never see that no topic is
            there, and what it predicts after one is taken out of the activation would mean nothing.
        subtopics: The number of subtopics of each topic, of which a document has one.
        subtopic_words: The number of words of each subtopic, in each language.
        markers: The number of binary concepts beside the tone. The last one is only present together with the one
            before it.
        marker_words: The number of words of each binary concept, in each language.
        words: The number of words of a document. All documents have this length, so that sequences of ``words + 2``
            tokens, with BOS and EOS, hold one document each.
        loans: The share of words that another language lends to a document.
        toxic: The share of documents with a toxic tone.
        bigram: How strongly a word depends on the word before it: the standard deviation of its log-probability.
        fit_documents: The number of documents that the readout is fitted to.
        fit_tokens: The number of their tokens that are taken.
        fit_steps: The most steps of that fit.
        documents: The number of documents of the general text and of the retained text.
        forget_documents: The number of documents of the topic that is to be forgotten.
        labelled: The number of examples of each labelled dataset of two classes; others have as many of each class.
        questions: The number of questions of each side.
        sentences: The number of parallel sentences.
    """

    d: int = 128
    languages: int = 3
    functions: int = 12
    topics: int = 12
    topic_words: int = 3
    no_topic: float = 0.3
    subtopics: int = 2
    subtopic_words: int = 2
    markers: int = 4
    marker_words: int = 2
    words: int = 46
    loans: float = 0.05
    toxic: float = 0.25
    bigram: float = 0.7
    fit_documents: int = 800
    fit_tokens: int = 12000
    fit_steps: int = 60
    documents: int = 600
    forget_documents: int = 240
    labelled: int = 320
    questions: int = 120
    sentences: int = 220


RECIPES = {
    "small": Recipe(),
    "tiny": Recipe(
        d=64,
        functions=8,
        topics=5,
        markers=3,
        words=30,
        fit_documents=200,
        fit_tokens=4000,
        fit_steps=30,
        documents=240,
        forget_documents=100,
        labelled=160,
        questions=40,
        sentences=100,
    ),
}
