"""Run configs and boards in YAML that are no YAML, too large, too deep, or would run code."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.hostile.case import EXECUTED, Case, Surroundings

DONE, REFUSED = frozenset({0}), frozenset({2})
BOARD = "name: board\ntitle: t\ndescription: d\n"


def cases() -> list[Case]:
    """Return the cases: run configs, which are only planned, and boards."""
    return [*_values(), *_bombs(), *_files(), *_code(), *_configs(), *_boards()]


def _config(name: str, content: str | bytes, *says: str, codes: frozenset[int] = REFUSED) -> Case:
    """Return the case of a run config."""
    return _config_made(name, lambda path, around: _write(path, content), *says, codes=codes)


def _config_made(
    name: str, make: Callable[[Path, Surroundings], object], *says: str, codes: frozenset[int] = REFUSED
) -> Case:
    """Return the case of a run config that ``make`` writes to a path."""

    def write(folder: Path, around: Surroundings) -> Sequence[str]:
        make(folder / "run.yaml", around)
        inputs = ["--model", str(around.model), "--text", f"jsonl:{around.text}"]
        return ["run", "--dry-run", *inputs, "--config", str(folder / "run.yaml")]

    return Case(name, "settings", write, says, codes)


def _board(name: str, content: str, *says: str, codes: frozenset[int] = REFUSED, file: str = "board.yaml") -> Case:
    """Return the case of a board."""

    def write(folder: Path, around: Surroundings) -> Sequence[str]:
        _write(folder / file, content)
        results = ["--results", str(around.records), "--out", str(folder / "site")]
        return ["leaderboard", "build", "--board", str(folder / file), *results]

    return Case(name, "settings", write, says, codes)


def _write(path: Path, content: str | bytes) -> None:
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))


_VALUES = {
    "a truth value that is none": ("!!bool maybe", "no truth value"),
    "a whole number that is none": ("!!int x", "no whole number"),
    "a number that is none": ("!!float x", "no number"),
    "a timestamp": ("!!timestamp x", "is not allowed"),
    "binary data": ("!!binary '%'", "is not allowed"),
    "a set": ("!!set {a, b}", "is not allowed"),
    "an ordered mapping": ("!!omap [a: 1]", "is not allowed"),
    "pairs": ("!!pairs [a: 1]", "is not allowed"),
    "a text that is a list": ("!!str [1]", "expected a scalar node"),
    "a list that is a text": ("!!seq x", "expected a sequence node"),
    "a mapping that is a list": ("!!map [1]", "expected a mapping node"),
    "an unknown tag": ("!unknown x", "is not allowed"),
    "a name of Python": ("!!python/name:os.system x", "is not allowed"),
    "a tuple of Python": ("!!python/tuple [1, 2]", "is not allowed"),
    "a call of Python": (f"!!python/object/apply:os.mkdir [{EXECUTED}]", "is not allowed"),
    "a new object of Python": (f"!!python/object/new:os.mkdir [{EXECUTED}]", "is not allowed"),
    "a module of Python": ("!!python/module:this x", "is not allowed"),
    "a whole number of 5,000 digits": ("9" * 5000, "no whole number"),
    "a negative number of 5,000 digits": ("-" + "9" * 5000, "no whole number"),
    "a hexadecimal number of 5,000 digits": ("0x" + "f" * 5000, "no whole number"),
    "a number of 65 bits": ("18446744073709551616", "no whole number"),
    "half a surrogate pair": ('"\\ud800"', "Unicode character"),
    "a character beyond Unicode": ('"\\U00110000"', "Unicode character"),
    "a character far beyond Unicode": ('"\\UFFFFFFFF"', "Unicode character"),
    "an alias of nothing": ("*unknown", "undefined alias"),
    "a list in itself": ("&a [*a]", "into itself"),
    "a mapping in itself": ("&a {x: *a}", "into itself"),
    "a mapping merged with itself": ("&a {<<: *a}", "into itself"),
    "a merge with a number": ("{<<: 1}", "expected a mapping"),
    "a key that is a list": ("{? [a] : b}", "a key must be a text"),
    "a key that is a number": ("{1: b}", "a key must be a text"),
    "a key twice": ("{a: 1, a: 2}", "'a' is there twice"),
    "an open list": ("[", "is not valid YAML"),
    "an open text": ('"', "is not valid YAML"),
    "a tag of nothing": ("!!", "is not valid YAML"),
    "a reserved character": ("@x", "is not valid YAML"),
    "70 lists in each other": ("[" * 70 + "]" * 70, "nested more than 64 deep"),
    "70 mappings in each other": ("{a: " * 70 + "1" + "}" * 70, "nested more than 64 deep"),
    "100,000 lists in each other": ("[" * 100_000, "nested more than 64 deep"),
    "a date": ("2024-01-01", "There is no suite '2024-01-01'"),
    "a date that does not exist": ("2024-13-45", "There is no suite '2024-13-45'"),
    "a time that does not exist": ("2024-01-01T25:61:61Z", "There is no suite"),
    "an escape sequence": ('"\\e[31m"', "There is no suite"),
    "a zero byte": ('"\\0"', "There is no suite"),
    "no number at all": (".nan", "suite"),
    "an infinite number": (".inf", "suite"),
    "nothing": ("", "suite"),
}


def _values() -> list[Case]:
    """A value of every odd kind, as the suite of a run."""
    return [_config(name, f"suite: {value}\n", says) for name, (value, says) in _VALUES.items()]


def _laughs(levels: int, template: str, first: str) -> str:
    """Return a file in which each level names the level before nine times, in the place of ``{}``."""
    lines = [f"a0: &a0 {first}"]
    for level in range(1, levels):
        lines.append(f"a{level}: &a{level} {template.format(', '.join([f'*a{level - 1}'] * 9))}")
    return "\n".join(lines) + "\n"


def _deeper(levels: int) -> str:
    """Return a file in which each level holds the level before inside 60 lists."""
    held = ["x", *(f"*a{level}" for level in range(levels))]
    return "".join(f"a{level}: &a{level} {'[' * 60}{held[level]}{']' * 60}\n" for level in range(levels))


def _bombs() -> list[Case]:
    expands, lists = "expands to more than", "[{}]"
    return [
        _config("a billion laughs", _laughs(12, lists, "[x, x, x]"), expands),
        _config("a billion laughs that are read as SAEs", _laughs(12, lists, "[x]") + "sae: *a11\n", expands),
        _config("a billion merged keys", _laughs(12, "{{<<: [{}]}}", "{x: 1}"), expands),
        _config("a long text, repeated", f"a: &a {'x' * 10**5}\nsae: [{', '.join(['*a'] * 10**4)}]", expands),
        _config("a depth through aliases", _deeper(50), "nested more than 64 deep"),
        _config("thousands of laughs", _laughs(5, lists, "[x, x, x]"), "Unknown option 'a0'"),
        _config("a list of a million", "sae: [" + "x, " * 400_000 + "x]", "is larger than"),
        _config("a file of 30 MB", "# " + "x" * 30_000_000, "is larger than"),
        _config("80,000 keys", "".join(f"k{number}: 1\n" for number in range(80_000)), "Unknown option"),
        _config("colons", ":" * 100_000, "must hold options", "is not valid YAML"),
        _config("question marks", "? " * 50_000, "nested more than 64 deep"),
        _config("quotes", "'" * 100_001, "is not valid YAML"),
        _config("anchors", "".join(f"&a{number} " for number in range(50_000)), "is not valid YAML"),
    ]


def _files() -> list[Case]:
    def link(target: str) -> Callable[[Path, Surroundings], object]:
        return lambda path, around: path.symlink_to(target)

    def locked(path: Path, around: Surroundings) -> None:
        path.mkdir()

    text = "suite: smoke\n"
    return [
        _config_made("a config that is a pipe", lambda path, around: os.mkfifo(path), "it is a named pipe"),
        _config_made("a config that is a folder", locked, "it is a folder"),
        _config_made("a config that is an endless device", link("/dev/zero"), "it is a device"),
        _config_made("a config that is the terminal", link("/dev/tty"), "Cannot read the config file"),
        _config_made("a config that is standard input", link("/dev/stdin"), "Cannot read", "must hold options"),
        _config_made("a config that links to itself", link("run.yaml"), "Too many levels"),
        _config_made("a config that is missing", link("missing"), "No such file"),
        _config("a config in UTF-16", text.encode("utf-16"), "is not UTF-8"),
        _config("a config in Latin-1", "suite: \u00e9".encode("latin-1"), "is not UTF-8"),
        _config("a config with a zero byte", "suite: \0", "is not valid YAML"),
        _config("a config with an escape", "suite: \x1b[31m", "is not valid YAML"),
        _config("a config of two documents", "suite: smoke\n---\nsuite: paper\n", "it holds 2 documents"),
        _config("a config that is a list", "[a, b]", "must hold options"),
        _config("a config that is a text", "just words", "must hold options"),
        _config("a config that is a number", "1", "must hold options"),
    ]


def _code() -> list[Case]:
    def names_code(name: str, template: str) -> Case:
        def make(path: Path, around: Surroundings) -> None:
            code = path.parent / "code.py"
            code.write_text(f"open({str(path.parent / EXECUTED)!r}, 'w').close()\ndef build(): ...\n")
            _write(path, template.format(f"python:{code}:build"))

        return _config_made(f"a config that names code {name}", make, "is code that the run would execute")

    return [
        names_code("as an SAE", "sae: '{0}'\n"),
        names_code("in a list", "sae: ['baseline:neurons', '{0}?a=1']\n"),
        names_code("in a control", "sae: ['baseline:permuted-decoder({0})']\n"),
        names_code("in a control of a control", "sae: ['baseline:permuted-decoder(baseline:permuted-decoder({0}))']\n"),
        names_code("in a group", "sae_group: ['g=baseline:neurons,{0}']\n"),
        _config("a config that trusts code of the model", "trust_remote_code: true\n", "cannot allow code to run"),
        _config("a config that allows Python", "allow_python: true\n", "cannot allow code to run"),
    ]


def _configs() -> list[Case]:
    return [
        _config("parameters that are a list", "parameters: []\n", "Option 'parameters"),
        _config("parameters that are null", "parameters: null\n", "Option 'parameters"),
        _config("parameters of no task", "parameters: {x: {}}\n", "not part of this run"),
        _config("a parameter that does not exist", "parameters: {core: {x: 1}}\n", "no such parameter"),
        _config("a parameter that is no number", "parameters: {core: {sequences: .nan}}\n", "must be"),
        _config("a parameter that is infinite", "parameters: {core: {sequences: .inf}}\n", "must be"),
        _config("a parameter that is an object", "parameters: {core: {sequences: {a: {b: 1}}}}\n", "sequences"),
        _config("a parameter that is negative", "parameters: {core: {sequences: -1}}\n", "at least"),
        _config("a parameter that is a text", "parameters: {core: {sequences: many}}\n", "whole number"),
        _config("a seed that is negative", "seed: -1\n", "Option 'seed"),
        _config("a seed of 64 bits", "sae: baseline:neurons\nseed: 9223372036854775807\n", codes=DONE),
        _config("a seed that is a list of lists", "seed: [[1]]\n", "Option 'seed"),
        _config("no seed", "seed: []\n", "Option 'seed"),
        _config("a limit that is no number", "limit: .nan\n", "Option 'limit'"),
        _config("a limit of 10**15", "limit: 1000000000000000\n", "Option 'limit'"),
        _config("a budget that is a list", "memory_budget: [[1, 2], [3, 4]]\n", "is not an amount of memory"),
        _config("a budget that is no number", "cache_budget: .nan\n", "is not an amount of memory"),
        _config("a budget that is negative", "memory_budget: -1\n", "is not an amount of memory"),
        _config("results of nobody", "out: ~no-such-user/x\n", "there is no user"),
        _config("results in a zero byte", 'out: "a\\0b"\n', "zero byte"),
        _config("an SAE that is a mapping", "sae: {a: 1}\n", "Option 'sae"),
        _config("an SAE that is a number", "sae: [1]\n", "Option 'sae"),
        _config("an option that does not exist", "modell: x\n", "Did you mean 'model'"),
    ]


def _boards() -> list[Case]:
    tasks = "tasks: {core: }\n"

    def titled(title: str) -> str:
        return f"name: board\ntitle: {title}\ndescription: d\n{tasks}"

    return [
        _board("a board that is a list", "[]", "must hold keys"),
        _board("a board of nothing", "", "must hold keys"),
        _board("a board without tasks", f"{BOARD}tasks: {{}}\n", "tasks"),
        _board("a board of an unknown task", f"{BOARD}tasks: {{x: }}\n", "There is no task 'x'"),
        _board("a board whose tasks are a text", f"{BOARD}tasks: core\n", "tasks"),
        _board("a board whose columns are numbers", f"{BOARD}tasks: {{core: {{columns: [1]}}}}\n", "columns"),
        _board("a board of an unknown metric", f"{BOARD}tasks: {{core: {{ranked: [x]}}}}\n", "no metric 'x'"),
        _board("a board with a path as name", f"{BOARD.replace('board', '../../x')}{tasks}", "name"),
        _board("a board with another name", f"{BOARD.replace('board', 'other')}{tasks}", "name"),
        _board("a board with a long name", f"{BOARD.replace('board', 'x' * 5000)}{tasks}", "name"),
        _board("a board with a date as title", titled("2024-01-01"), codes=DONE),
        _board("a board whose title is a number", titled("1"), "title"),
        _board("a board with a script", titled("<script>x</script>"), codes=DONE),
        _board("a board with an escape", titled('"\\e[31m"'), codes=DONE),
        _board("a board of a billion laughs", _laughs(12, "[{}]", "[x, x]"), "expands to more than"),
        _board("a board that merges with itself", f"{BOARD}tasks: &a {{<<: *a}}\n", "into itself"),
        _board(
            "a board that calls Python", f"{BOARD}tasks: !!python/object/apply:os.mkdir [{EXECUTED}]", "not allowed"
        ),
        _board("a board that does not end in .yaml", f"{BOARD}{tasks}", "must end in .yaml", file="board.txt"),
    ]
