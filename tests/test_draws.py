"""No draw may depend on how the user names its input: a guard over every call that makes a random generator."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import saebench

PACKAGE = Path(saebench.__file__).parent
MAKERS = {"rng", "generator", "default_rng", "manual_seed", "SeedSequence", "RandomState", "seed"}
# What the name of a purpose may hold beside its text: words of closed lists, which the user cannot spell in two ways.
VOCABULARY = {"kind", "language", "method", "null", "purpose", "side", "split", "unit"}
# What a content may be: hashes of content.
CONTENTS = {"content", "content_hash", "fingerprint", "fingerprints", "NO_CONTENT"}
# What else tells draws apart: sizes, and places in something that content puts in order.
NUMBERS = {"draw", "n", "n_units", "new", "number", "row", "share", "size", "latents"}
# Makers below `saebench.stats.rng`, whose seed is a number that a generator drew or a constant.
BARE = {
    "harness/utility.py",
    "lm/model.py",
    "lm/sampling.py",
    "sae/base.py",
    "sae/behaviour.py",  # it is seeded by the SAE's own fingerprint
    "sae/conformance.py",
    "stats/rng.py",
    "synthetic/model.py",
}
# Draws of planted models and of SAEs for them, which a recipe and a seed decide alone: nothing there has a reference.
PLANTED = {"sae/panel/planted.py", *(f"synthetic/planted/{name}.py" for name in ("model_files", "texts", "words"))}
# Draws for the intervals of comparisons and ranks, which are of numbers of units and metrics alone.
FROM_RECORDS = {"results", "leaderboard"}


def calls(source: str) -> Iterator[tuple[ast.Call, str]]:
    """Yield the calls that make a generator, each with the name of the function."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in MAKERS:
                yield node, name


def names(node: ast.AST) -> set[str]:
    """The last names that stand in an expression: ``b`` for ``a.b``, and for ``a.b()``."""
    inside: set[str] = set()
    parents = {child: parent for parent in ast.walk(node) for child in ast.iter_child_nodes(parent)}
    for part in ast.walk(node):
        owner = parents.get(part)
        if isinstance(part, ast.Attribute) and not (isinstance(owner, ast.Attribute)):
            inside.add(part.attr)
        elif isinstance(part, ast.Name) and not isinstance(owner, ast.Attribute):
            if (isinstance(owner, ast.Subscript) and owner.slice is part) or part.id == "len":
                continue  # a place in a list of contents, or a size
            inside.add(part.id)
    return inside


def problems(source: str) -> list[str]:
    """Say which draws are named by something that is neither a fixed word, content nor a number."""
    found = []
    for call, name in calls(source):
        # ``rng(purpose, content, *numbers)``, or ``generator(seed, purpose, content, *numbers)``
        if name not in ("rng", "generator"):
            continue
        purpose, *rest = call.args if name == "rng" else call.args[1:]
        content, numbers = rest[:1], rest[1:]
        if bad := names(purpose) - VOCABULARY:
            found.append(f"line {call.lineno}: its purpose depends on {', '.join(sorted(bad))}")
        if not isinstance(purpose, ast.Constant | ast.JoinedStr) and ast.unparse(purpose) != "purpose":
            found.append(f"line {call.lineno}: its purpose is not written there")
        if name == "rng" and not content:
            found.append(f"line {call.lineno}: it has no content")
        for part in content:
            if not names(part) or names(part) - CONTENTS:
                found.append(f"line {call.lineno}: its content is {ast.unparse(part)}")
        for part in (part for part in numbers if not isinstance(part, ast.Starred)):
            if bad := names(part) - NUMBERS:
                found.append(f"line {call.lineno}: its numbers hold {', '.join(sorted(bad))}")
    return found


def sources() -> list[Path]:
    return [path for path in sorted(PACKAGE.rglob("*.py")) if path.relative_to(PACKAGE).parts[0] not in FROM_RECORDS]


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_draw_is_named_by_a_reference(path: Path):
    if path.relative_to(PACKAGE).as_posix() in BARE:
        pytest.skip("it makes generators of seeds that were drawn already")
    if path.relative_to(PACKAGE).as_posix() in PLANTED:
        pytest.skip("it draws what a recipe and a seed decide")
    assert problems(path.read_text("utf-8")) == []


def test_generators_are_made_in_one_place_only():
    bare = {
        path.relative_to(PACKAGE).as_posix()
        for path in sources()
        if {name for _, name in calls(path.read_text("utf-8"))} - {"rng", "generator"}
    }
    assert bare <= BARE


@pytest.mark.parametrize(
    "source",
    [
        'context.rng(f"split:{ref}", documents.content_hash)',
        'context.rng("split", ref)',
        'context.rng("split", settings.text)',
        'context.rng("split", data.name)',
        'context.rng(f"folds:{data.name}", NO_CONTENT)',
        'context.rng("split")',
        "context.rng(name, NO_CONTENT)",
        'context.rng("draws", data.content_hash, path)',
        'rng("decoder", str(number))',
        'generator(seed, f"texts:{source}")',
        'generator(seed, "questions", data.ref)',
    ],
)
def test_the_guard_sees_references(source: str):
    assert problems(source)


@pytest.mark.parametrize(
    "source",
    [
        'context.rng("split", documents.content_hash)',
        'context.rng(f"stability:{kind}", member.fingerprint)',
        'rng(f"subsets:{kind}", fingerprints[run])',
        'rng("scarcity", data.content, size, number)',
        'context.rng("latents", NO_CONTENT, len(clamp.latents))',
        'context.rng("bootstrap", rng.NO_CONTENT, n_units)',
        'generator(seed, "documents")',
    ],
)
def test_the_guard_lets_content_pass(source: str):
    assert problems(source) == []
