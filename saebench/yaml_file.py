"""A reader of small YAML files that somebody else wrote: run configs, task cards and boards.

It reads only what JSON knows: texts, numbers, truth values, null, lists, and mappings whose keys are texts. A date is a
text. Aliases and merge keys work, but through them a file must not hold itself or expand beyond all bounds. No key may
be there twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import yaml
from yaml.constructor import ConstructorError, SafeConstructor
from yaml.nodes import CollectionNode, MappingNode, Node, ScalarNode

from saebench.errors import UsageError
from saebench.files import MAX_DEPTH, SMALL, Fault, is_text, read_small_text, storable_text

_EXPANDED = 4 * SMALL  # the largest size of a file in characters after its aliases are expanded
_BITS = 64
_TAG = "tag:yaml.org,2002:"
_KNOWN = tuple(f"{_TAG}{kind}" for kind in ("null", "bool", "int", "float", "str", "seq", "map"))
_MERGE = f"{_TAG}merge"
_SCALARS = {
    "bool": "truth value",
    "int": f"whole number of at most {_BITS} bits",
    "float": "number",
    "str": "text of whole characters",
}


def read_yaml(path: Path, what: str, fault: Fault = UsageError) -> Any:
    """Return the content of a YAML file as JSON values.

    Args:
        path: The file.
        what: What messages call the file, such as "task card".
        fault: The class of the error to raise.

    Raises:
        SaebenchError: The class ``fault``, for whatever `saebench.files.read_small_text` and `parse_yaml` refuse.
    """
    return parse_yaml(read_small_text(path, what, fault), f"The {what} {storable_text(str(path))}", fault)


def parse_yaml(text: str, where: str, fault: Fault, *, text_keys: bool = True) -> Any:
    """Return the value of a YAML text that holds one document, or None if it is empty.

    Args:
        text: The YAML text.
        where: The beginning of messages, such as "The config file run.yaml".
        fault: The class of the error to raise.
        text_keys: Whether all keys must be texts. Otherwise numbers, truth values and null may be keys, too.

    Raises:
        SaebenchError: The class ``fault``, when the text is not YAML or holds something that JSON does not know.
    """
    documents = parse_yaml_documents(text, where, fault, text_keys=text_keys)
    if len(documents) > 1:
        raise fault(f"{where} is not valid YAML: it holds {len(documents)} documents, and one is expected.")
    return documents[0] if documents else None


def parse_yaml_documents(text: str, where: str, fault: Fault, *, text_keys: bool = True) -> list[Any]:
    """Return the values of all documents of a YAML text. Takes and raises what `parse_yaml` does."""
    try:
        _check_size(text)
        return _load(text, text_keys)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        problem = ", ".join(filter(None, (error.context, error.problem)))
        raise fault(f"{where} is not valid YAML{place}: {_line(problem)}.") from error
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # the last two: a character that does not exist
        raise fault(f"{where} is not valid YAML: {_line(str(error))}.") from error


def _scalar(loader: SafeConstructor, node: ScalarNode) -> Any:
    """Return the value of a scalar. Raises ConstructorError for one whose tag does not fit its text."""
    kind = node.tag.removeprefix(_TAG)
    try:
        value = getattr(SafeConstructor, f"construct_yaml_{kind}")(loader, node)
    except (KeyError, ValueError, IndexError) as error:  # a ValueError, too, for numbers of thousands of digits
        raise _at(node, f"this is no {_SCALARS[kind]}") from error
    too_large = kind == "int" and not -(2 ** (_BITS - 1)) <= value < 2 ** (_BITS - 1)
    if too_large or (kind == "str" and not is_text(value)):
        raise _at(node, f"this is no {_SCALARS[kind]}")
    return value


def _refused(loader: SafeConstructor, node: Node) -> Any:
    raise _at(node, f"the tag {node.tag.removeprefix(_TAG)!r} is not allowed")


def _restricted(base: Any) -> Any:
    """Return a safe loader of PyYAML without dates, binary data, sets and ordered mappings."""

    class Loader(base):
        yaml_implicit_resolvers: ClassVar = {
            first: [(tag, pattern) for tag, pattern in resolvers if tag in (*_KNOWN, _MERGE)]
            for first, resolvers in base.yaml_implicit_resolvers.items()
        }
        yaml_constructors: ClassVar = {
            tag: construct for tag, construct in base.yaml_constructors.items() if tag in _KNOWN
        }

    for kind in _SCALARS:
        Loader.add_constructor(f"{_TAG}{kind}", _scalar)
    Loader.add_constructor(None, _refused)
    return Loader


_Loader = _restricted(getattr(yaml, "CSafeLoader", yaml.SafeLoader))


@dataclass
class _Size:
    """How large a part of a file is after its aliases are expanded."""

    anchor: str | None
    characters: int = 1
    depth: int = 0  # of the lists and mappings in it


def _check_size(text: str) -> None:
    """Raise YAMLError for a file that nests too deeply, expands too far or holds itself.

    The events of the file are enough to see this. What builds the values would recurse or run out of memory.
    """
    total, stack, anchored = 0, [_Size(None)], dict[str, _Size]()
    for event in yaml.parse(text, Loader=_Loader):
        closed = None
        if isinstance(event, yaml.CollectionStartEvent):
            stack.append(_Size(event.anchor, depth=1))
        elif isinstance(event, yaml.CollectionEndEvent):
            closed = stack.pop()
        elif isinstance(event, yaml.ScalarEvent):
            closed = _Size(event.anchor, 1 + len(event.value))
            total += closed.characters
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor in {part.anchor for part in stack}:
                raise _at(event, f"the alias {event.anchor!r} puts a list or mapping into itself")
            # An alias of nothing is reported where the values are built.
            closed = anchored.get(event.anchor or "", _Size(None))
            total += closed.characters
        if closed is not None:
            if closed.anchor is not None:
                anchored[closed.anchor] = closed
            stack[-1].characters += closed.characters
            stack[-1].depth = max(stack[-1].depth, closed.depth + (len(stack) > 1))
        if len(stack) - 1 + (closed.depth if closed else 0) > MAX_DEPTH:
            raise _at(event, f"lists or mappings are nested more than {MAX_DEPTH} deep")
        if total > _EXPANDED:
            raise _at(event, f"the file expands to more than {_EXPANDED:,} characters through its aliases")


def _load(text: str, text_keys: bool) -> list[Any]:
    loader, values = _Loader(text), []
    try:
        while loader.check_node():
            node = loader.get_node()
            _check_keys(node, text_keys, set())
            values.append(loader.construct_document(node))
    finally:
        loader.dispose()
    return values


def _check_keys(node: Node, text_keys: bool, seen: set[int]) -> None:
    """Raise ConstructorError for a key of a wrong kind, or that its mapping holds twice, so that one would be lost."""
    if not isinstance(node, CollectionNode) or id(node) in seen:
        return
    seen.add(id(node))
    keys = set()
    for child in node.value:
        if isinstance(node, MappingNode):
            key, child = child
            if not isinstance(key, ScalarNode) or (text_keys and key.tag not in (f"{_TAG}str", _MERGE)):
                raise _at(key, "a key must be a text; put it in quotes")
            if key.value in keys:
                raise _at(key, f"the key {key.value[:100]!r} is there twice")
            keys.add(key.value)
        _check_keys(child, text_keys, seen)


def _line(text: str) -> str:
    """Return a message of PyYAML in one line that a record can hold, at most 300 characters long."""
    return storable_text(" ".join(text.split()))[:300]


def _at(part: Any, problem: str) -> ConstructorError:
    """Return the error for a node or event."""
    return ConstructorError(None, None, problem, part.start_mark)
