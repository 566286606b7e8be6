"""Random run configs, task cards and boards in YAML, and what commands do with them."""

from __future__ import annotations

import json
import math
import random
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.hostile.draw import mutated, odd, value
from tests.hostile.folder import SITE
from tests.hostile.fuzz_references import GROUPS, MODELS, SAES, SITES, SIZES, TEXTS

_HOLE = "the-hole-for-a-fragment"
_LAUGHS = "[&a [x, x, x, x, x, x, x, x, x], &b [*a, *a, *a, *a, *a, *a, *a, *a], &c [*b, *b, *b, *b, *b, *b, *b, *b]"
_MORE_LAUGHS = ", &d [*c, *c, *c, *c, *c, *c, *c], &e [*d, *d, *d, *d, *d, *d, *d, *d, *d, *d, *d]]"
FRAGMENTS = (  # flow YAML that no dump writes
    *("!!bool maybe", "!!int x", "!!float x", "!!null x", "!!timestamp x", "!!binary '%'", "!!set {a, b}", "!", "!!"),
    *("!!pairs [a: 1]", "!!omap [a: 1]", "!!str [1]", "!!seq x", "!!map [1]", "!unknown x", "!!python/tuple [1, 2]"),
    *(
        "!!python/object/apply:os.mkdir [EXECUTED]",
        "!!python/object/new:os.mkdir [EXECUTED]",
        "!!python/name:os.open x",
    ),
    *(
        "2024-01-01",
        "2024-13-45",
        "2024-01-01T25:61:61Z",
        "0001-01-01",
        "9999-12-31",
        "1:2:3",
        "190:20:30",
        "0o8",
        "0x",
    ),
    *(".inf", "-.inf", ".nan", "1e400", "9" * 5000, "-" + "9" * 5000, "0b2", "1_000", "0777", "=", "~", "yes", "no"),
    *("0x" + "f" * 5000, "18446744073709551616", "9223372036854775807", "1.0e+400", "on", "&a x", "*unknown"),
    *("&a [*a]", "&a {x: *a}", "{<<: 1}", "{<<: [1]}", "{<<: &a {<<: *a}}", "{? [a] : b}", "{? {a: 1} : b}", "{1: 2}"),
    *('"\\ud800"', '"\\0"', '"\\x1b"', '"\\UFFFFFFFF"', '"\\U00110000"', "'", '"', "{", "[", "]", "}", "|", ">", "%"),
    *("{a: 1, a: 2}", "[" * 70 + "]" * 70, "[" * 3000 + "]" * 3000, "{a: " * 70 + "1" + "}" * 70, "[" * 3000, "@", "`"),
    *(_LAUGHS + "]", _LAUGHS + _MORE_LAUGHS),
)

_CARD = {
    "name": "made",
    "version": 1,
    "title": "Made up",
    "description": "d",
    "measures": "m",
    "cannot_tell": "c",
    "scope": "sae",
    "needs": ["linear_decoder"],
    "cost": "c",
    "parameters": {
        "share": {"default": 0.5, "description": "d", "above": 0, "below": 1},
        "counts": {"default": [1, 2], "description": "d", "minimum": 1, "ascending": True, "non_empty": True},
        "kind": {"default": "a", "description": "d", "choices": ["a", "b"]},
        "names": {"default": [], "items": "text", "description": "d", "unique": True},
    },
    "presets": {"smoke": {"share": 0.25}, "quick": {}, "standard": {"counts": [3, 4]}, "paper": {}},
    "data": [{"reference": "r", "revision": "r", "licence": "l"}],
    "metrics": [
        {
            "id": "fvu",
            "title": "t",
            "description": "d",
            "unit": "share",
            "higher_is_better": False,
            "bounds": [0.0, None],
            "primary": True,
            "interval": "bootstrap",
        }
    ],
    "table_columns": ["fvu"],
    "citation": ["2410.14670"],
}
_BOARD = {
    "name": "board",
    "title": "t",
    "description": "d",
    "filter": {"models": ["model"], "hooks": [SITE], "presets": ["smoke"]},
    "strata": ["model", "hook"],
    "tasks": {"core": {"columns": ["fvu"], "ranked": ["fvu"]}, "sparse_probing": None},
    "rank_rule": "mean rank",
}
_OPTIONS: dict[str, tuple[Any, ...]] = {  # good values of the options of a run; others take any value
    "suite": ("smoke", "quick"),
    "tasks": (["core"], "core", ["core", "dark_matter"]),
    "sae": tuple([one] for one in SAES),
    "sae_group": GROUPS,
    "model": MODELS,
    "hook": SITES,
    "preset": ("smoke", "paper"),
    "text": TEXTS,
    "out": ("out", "~/out"),
    "seed": (0, [0, 1]),
    "device": ("cpu", "auto", "cuda:7"),
    "dtype": ("float32", "auto"),
    "limit": (2, 100),
    "batch_size": (1, 8),
    "memory_budget": SIZES,
    "cache_budget": SIZES,
    "overwrite": ("missing", "failed", "always"),
    "parameters": ({"core": {"context_length": 16, "sequences": 4}}, {"dark_matter": {"text": "jsonl:text.jsonl"}}),
}


def _plan(file: Path) -> None:
    """Read a run config, plan it, and write down what a record would keep of it."""
    from saebench.results.identity import canonical_json
    from saebench.results.record import Identity
    from saebench.runner.describe import describe
    from saebench.runner.plan import make_plan
    from saebench.runner.request import make_request

    request = make_request({}, file)
    json.dumps(request.arguments(), allow_nan=False, ensure_ascii=False).encode()
    plan = make_plan(request)
    for job in plan.jobs[:3]:
        canonical_json(
            Identity(
                task=job.task.name,
                task_version=job.task.version,
                parameters=job.task.parameters,
                seed=job.seed,
                model=str(plan.model),
                model_fingerprint="",
                dtype="float32",
                device_class="cpu",
                sae=str(job.subject),
                sae_fingerprint="",
                data={},
            )
        )
    describe(plan).encode()


def _card(file: Path) -> None:
    """Read a card, show it and use its presets."""
    from saebench.cards.card import PRESETS, load_card
    from saebench.cli.tasks import _card as shown

    card = load_card(file)
    card.model_dump_json().encode()
    shown(card).encode()
    for preset in PRESETS:
        json.dumps(card.resolve(preset), allow_nan=False)


def _board(file: Path) -> None:
    from saebench.leaderboard.board import load_board

    board = load_board(file)
    board.check()
    board.model_dump_json().encode()


_KINDS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "a run config": ("run.yaml", _plan),
    "a card": ("made.yaml", _card),
    "a board": ("board.yaml", _board),
}


@contextmanager
def cards_trusted() -> Iterator[None]:
    """Do not compare the settings of the built-in tasks with their cards for every example, which takes most time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("saebench.tasks.factory.mismatch", lambda implementation, card: "")
        yield


def _run_config(draw: random.Random) -> dict[str, Any]:
    """Return a small run config; every option of a run may be in it."""
    from saebench.runner.request import RunRequest

    config: dict[str, Any] = {"tasks": ["core"], "model": "model", "sae": ["sae_lens:good"], "text": "jsonl:text.jsonl"}
    for name in draw.sample(sorted(RunRequest.model_fields), k=draw.randrange(4)):
        config[name] = draw.choice(_OPTIONS[name]) if name in _OPTIONS else value(draw)
    return config


def _spoil(draw: random.Random, tree: Any, put: Any) -> Any:
    """Return a copy of ``tree`` with ``put`` at a random place, or with one key or item more, less or renamed."""
    if isinstance(tree, dict) and tree:
        key = draw.choice(sorted(tree, key=str))
        kind = draw.random()
        if kind < 0.1:
            return {**tree, odd(draw): put}
        if kind < 0.2:
            return {other: item for other, item in tree.items() if other != key}
        if kind < 0.25:
            return {odd(draw) if other == key else other: item for other, item in tree.items()}
        if kind < 0.6:
            return {**tree, key: put}
        return {**tree, key: _spoil(draw, tree[key], put)}
    if isinstance(tree, list) and tree:
        place = draw.randrange(len(tree))
        new = put if draw.random() < 0.5 else _spoil(draw, tree[place], put)
        return draw.choice(([*tree[:place], new, *tree[place + 1 :]], [*tree, new], [*tree, *tree]))
    return put


def document(draw: random.Random, tree: Any) -> bytes:
    """Return a YAML file: ``tree``, spoilt as a tree, as text or as bytes."""
    kind = draw.random()
    if kind < 0.05:
        return draw.choice((odd(draw), draw.choice(FRAGMENTS))).encode("utf-8", "surrogatepass")
    if kind < 0.5:
        for _ in range(draw.choice((1, 1, 2))):
            tree = _spoil(draw, tree, value(draw))
    fragment = None
    if 0.4 < kind < 0.8:
        tree, fragment = _spoil(draw, tree, _HOLE), draw.choice(FRAGMENTS)
    text = _dump(tree)
    if fragment is not None:
        text = text.replace(_HOLE, fragment)
    if kind > 0.8:
        text = mutated(draw, text, FRAGMENTS)
    content = text.encode("utf-8", "surrogatepass")
    if kind > 0.97:
        wide = text.encode("utf-16", "surrogatepass")
        return draw.choice((b"\xef\xbb\xbf" + content, wide, content[: draw.randint(0, len(content))] + b"\xff"))
    return content


def _dump(tree: Any) -> str:
    """Return ``tree`` as YAML: a mapping with one line for each key, and anything else in flow style."""
    if isinstance(tree, dict) and tree:
        return "".join(f"{_flow(key)}: {_flow(item)}\n" for key, item in tree.items())
    return _flow(tree)


def _flow(tree: Any) -> str:
    if tree == _HOLE:
        return _HOLE
    if isinstance(tree, dict):
        return "{" + ", ".join(f"{_flow(key)}: {_flow(item)}" for key, item in tree.items()) + "}"
    if isinstance(tree, list):
        return "[" + ", ".join(map(_flow, tree)) + "]"
    if isinstance(tree, float) and not math.isfinite(tree):
        return ".nan" if tree != tree else ".inf" if tree > 0 else "-.inf"
    if isinstance(tree, str) and re.fullmatch("[a-z][a-z_0-9.]*", tree):
        return tree
    return json.dumps(tree, ensure_ascii=False)


def example(draw: random.Random) -> tuple[str, object, Callable[[], object]]:
    """Return the name of a kind of document, its content, and the call that reads it."""
    name = draw.choice(sorted(_KINDS))
    file, read = _KINDS[name]
    tree = {"a run config": _run_config(draw), "a card": _CARD, "a board": _BOARD}[name]
    good = name == "a run config" and draw.random() < 0.3  # as YAML; its options may still be odd
    content = _dump(tree).encode("utf-8", "surrogatepass") if good else document(draw, tree)
    Path(file).write_bytes(content)
    return name, content, lambda: read(Path(file))
