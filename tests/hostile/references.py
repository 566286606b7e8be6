"""References to SAEs, groups, models, texts and hook points that name nothing, too much, or something dangerous."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.hostile.case import EXECUTED, Case, Surroundings

REFUSED = frozenset({2})
SOME_FAILED = frozenset({1})
SITE = "blocks.1.hook_resid_post"

Make = Callable[[Path, Surroundings], Sequence[str]]


def cases() -> list[Case]:
    """Return the cases. Almost all are refused before anything is loaded."""
    return [*_saes(), *_nested(), *_folders(), *_groups(), *_models(), *_texts(), *_hooks(), *_code()]


def _case(name: str, make: Make, *says: str, codes: frozenset[int] = REFUSED, dry: bool = True) -> Case:
    """Return the case of a run with the options that ``make`` returns.

    Args:
        name: The name of the case.
        make: Returns options; the model and the text are good unless they name others.
        *says: Texts of which the output must hold one.
        codes: The exit codes that are right.
        dry: Whether the run is only planned.
    """

    def write(folder: Path, around: Surroundings) -> Sequence[str]:
        given = list(make(folder, around))
        good = {"--model": str(around.model), "--text": f"jsonl:{around.text}", "--sae": "baseline:neurons"}
        missing = [word for option, value in good.items() if option not in given for word in (option, value)]
        sizes = ["--tasks", "core", "--preset", "smoke", "--limit", "4", "--device", "cpu", "--dtype", "float32"]
        out = ["--cache-budget", "0", "--out", str(folder / "out")]
        return ["run", *(["--dry-run"] if dry else []), *sizes, *out, *missing, *given]

    return Case(name, "references", write, says, codes)


def _sae(name: str, ref: str, *says: str, codes: frozenset[int] = REFUSED) -> Case:
    return _case(name, lambda folder, around: ["--sae", ref], *says, codes=codes)


def _saes() -> list[Case]:
    digits = "9" * 5000
    return [
        _sae("nothing", "", "must begin with one of"),
        _sae("white space", " \t", "must begin with one of"),
        _sae("a scheme alone", "zoo:", "names nothing"),
        _sae("an unknown scheme", "zooo:x", "Did you mean 'zoo'"),
        _sae("a format string", "{0.__class__}:x", "must begin with one of"),
        _sae("a percent form", "zoo:%s%n", "The zoo has no SAE"),
        _sae("a path in the zoo", "zoo:../../etc", "The zoo has no SAE"),
        _sae("escape sequences", "zoo:\x1b[31mred\x1b]0;title\x07", "The zoo has no SAE"),
        _sae("right to left", "zoo:\u202etopk", "The zoo has no SAE"),
        _sae("a byte that is not UTF-8", "zoo:\udcff", "holds a byte that is not UTF-8"),
        _sae("100,000 characters", "zoo:" + "x" * 100_000, "The zoo has no SAE"),
        _sae("an option without a value", "baseline:pca?k", "must read key=value"),
        _sae("an option without a name", "baseline:pca?=1", "must read key=value"),
        _sae("an option twice", "baseline:pca?k=1&k=2", "twice"),
        _sae("an option twice, once encoded", "baseline:pca?k=1&%6B=2", "twice"),
        _sae("a whole number of 5,000 digits", f"baseline:pca?k={digits}", "whole number"),
        _sae("a negative number", "baseline:random?seed=-1", "whole number"),
        _sae("a number with a line", "baseline:pca?k=1_0", "whole number"),
        _sae("digits of another script", "baseline:pca?k=\u0663", "whole number"),
        _sae("digits of full width", "baseline:pca?k=\uff11", "whole number"),
        _sae("a superscript", "baseline:pca?k=\u00b2", "whole number"),
        _sae("an infinite number", "baseline:random?l0=inf", "number above 0"),
        _sae("an infinite number in digits", "baseline:random?l0=1e400", "number above 0"),
        _sae("no number", "baseline:random?l0=nan", "number above 0"),
        _sae("a number in another script", "baseline:random?l0=\u0661.5", "number above 0"),
        _sae("thousands of options", "baseline:pca?" + "&".join(f"a{i}=1" for i in range(5000)), "has no option"),
        _sae("thousands of percent signs", "baseline:pca?" + "%25" * 20_000 + "=1", "has no option"),
        _sae("a byte order mark", "\ufeffzoo:topk-k32-s0", "must begin with one of"),
    ]


def _nested() -> list[Case]:
    def nested(depth: int, inner: str = "baseline:neurons", close: int | None = None) -> str:
        return "baseline:permuted-decoder(" * depth + inner + ")" * (depth if close is None else close)

    return [
        _sae("12 permutations", nested(12), "more than 8 references"),
        _sae("3,000 permutations", nested(3000), "more than 8 references"),
        _sae("8 permutations", nested(8), codes=frozenset({0})),
        _sae("30,000 open brackets", "baseline:permuted-decoder" + "(" * 30_000, "There is no baseline"),
        _sae("30,000 closed brackets", "baseline:permuted-decoder" + ")" * 30_000, "There is no baseline"),
        _sae("brackets the wrong way round", "baseline:permuted-decoder)zoo:topk-k32-s0(", "There is no baseline"),
        _sae("more opened than closed", nested(3, close=2), "baseline"),
        _sae("more closed than opened", nested(2, close=3), "baseline"),
        _sae("a permutation of nothing", "baseline:permuted-decoder()", "There is no baseline"),
        _sae("a permutation of a bad reference", nested(2, "zoo:x"), "The zoo has no SAE"),
        _sae("options at every level", "?seed=1)".join(["baseline:permuted-decoder(" * 12 + "zoo:x", *[""] * 12])),
    ]


def _folders() -> list[Case]:
    def folder(name: str, make: Callable[[Path], object], *says: str, codes: frozenset[int] = REFUSED) -> Case:
        def given(place: Path, around: Surroundings) -> Sequence[str]:
            make(place / "sae")
            return ["--sae", f"sae_lens:{place / 'sae'}"]

        return _case(name, given, *says, codes=codes)

    def settings(content: bytes) -> Callable[[Path], object]:
        def make(place: Path) -> None:
            place.mkdir()
            (place / "cfg.json").write_bytes(content)

        return make

    def pipe(place: Path) -> None:
        place.mkdir()
        os.mkfifo(place / "cfg.json")

    def device(place: Path) -> None:
        place.mkdir()
        (place / "cfg.json").symlink_to("/dev/zero")

    def hooked(hook: object, **more: object) -> bytes:
        return json.dumps({"architecture": "topk", "metadata": {"hook_name": hook}, **more}).encode()

    planned = frozenset({0})
    return [
        _sae("no such folder", "sae_lens:./missing", "does not exist"),
        _sae("no such folder, three names deep", "sae_lens:/missing/one/two", "does not exist"),
        _sae("the home of nobody", "sae_lens:~no-such-user/x", "does not exist"),
        _sae("a name that is too long", "sae_lens:" + "a" * 5000, "neither a folder nor"),
        _sae("a path that is too long", "sae_lens:/" + "a/" * 5000, "does not exist"),
        _sae("a zero byte, encoded", "sae_lens:good%00bad", "neither a folder nor"),
        folder("a link to itself", lambda place: place.symlink_to(place), "does not exist", "Too many levels"),
        folder("settings that are a pipe", pipe, codes=planned),
        folder("settings that are a device", device, codes=planned),
        folder("settings that are a list", settings(b"[1, 2]"), codes=planned),
        folder("settings that nest 100,000 lists", settings(b"[" * 100_000), codes=planned),
        folder("settings with a number of 5,000 digits", settings(b'{"d_in": ' + b"9" * 5000 + b"}"), codes=planned),
        folder("settings with half a surrogate pair", settings(hooked("blocks.1.\ud800")), codes=planned),
        folder("metadata that is a list", settings(b'{"metadata": []}'), codes=planned),
        folder("a hook that is an object", settings(hooked({"a": [1]})), codes=planned),
        folder("a hook that no model has", settings(hooked("blocks.1.ln")), "is not a hook that saebench can splice"),
        folder("a hook that this model lacks", settings(hooked("blocks.77.hook_resid_post")), "There is no hook"),
        folder("a hook of 5,000 digits", settings(hooked(f"blocks.{'9' * 5000}.hook_resid_post")), "is not a hook"),
        folder("a width that this model lacks", settings(hooked(SITE, d_in=7)), "It expects 7 dimensions"),
    ]


def _groups() -> list[Case]:
    def group(name: str, text: str, *says: str) -> Case:
        return _case(name, lambda place, around: ["--sae-group", text, "--tasks", "seed_stability"], *says)

    return [
        group("a group of nothing", "", "must begin with a name"),
        group("a group without SAEs", "g=", "must begin with one of"),
        group("a group of one", "g=baseline:neurons", "has one SAE"),
        group("a group with an SAE twice", "g=baseline:neurons,baseline:neurons", "twice"),
        group("a group of commas", "g=" + "," * 5000, "must begin with one of"),
        group("a group with a path as name", "../g=baseline:neurons,baseline:pca", "must begin with a name"),
        group("a group with a byte that is not UTF-8", "g=baseline:neurons,zoo:\udcff", "is not UTF-8"),
        group("a group of deep permutations", "g=zoo:topk-k32-s0," + "baseline:permuted-decoder(" * 500, "baseline"),
    ]


def _models() -> list[Case]:
    def model(name: str, ref: str, *says: str) -> Case:
        return _case(name, lambda place, around: ["--model", ref], *says)

    def settings(name: str, content: str, *says: str, codes: frozenset[int] = frozenset({0})) -> Case:
        def given(place: Path, around: Surroundings) -> Sequence[str]:
            (place / "model").mkdir()
            (place / "model" / "config.json").write_text(content)
            return ["--model", str(place / "model"), "--hook", SITE]

        return _case(name, given, *says, codes=codes)

    def pipe(place: Path, around: Surroundings) -> Sequence[str]:
        (place / "model").mkdir()
        os.mkfifo(place / "model" / "config.json")
        return ["--model", str(place / "model")]

    return [
        model("no model", "", "neither asset:NAME"),
        model("a model folder that is missing", "./no/model", "does not exist"),
        model("a model of nobody", "~no-such-user/model", "does not exist"),
        model("a model with a name that is too long", "a" * 5000, "neither asset:NAME"),
        model("a model with a path that is too long", "/" + "a/" * 5000, "does not exist"),
        model("a model with a byte that is not UTF-8", "./\udcff", "holds a byte that is not UTF-8"),
        model("an asset that does not exist", "asset:../../etc", "asset"),
        model("a model of the hub without a name", "hf:/", "is not a Hugging Face model"),
        model("a model of the hub with too many names", "hf:a/b/c", "is not a Hugging Face model"),
        model("a model that is a file", "/etc/hostname", "does not exist"),
        _case("a model whose settings are a pipe", pipe, "without config.json"),
        settings("a model of 10**30 blocks", '{"n_layer": 1' + "0" * 30 + "}"),
        settings("a model with a number of 5,000 digits", '{"n_layer": ' + "9" * 5000 + "}"),
        settings("a model whose settings nest deeply", "[" * 100_000),
        settings("a model of one block", '{"n_layer": 1}', "There is no hook", codes=REFUSED),
    ]


def _texts() -> list[Case]:
    def text(name: str, ref: str, *says: str) -> Case:
        return _case(name, lambda place, around: ["--text", ref], *says)

    return [
        text("a text without a scheme", "text.jsonl", "Unknown text reference"),
        text("a text that is missing", "jsonl:missing.jsonl", "does not exist"),
        text("a text with a name that is too long", "jsonl:" + "a" * 5000, "does not exist"),
        text("a text with a byte that is not UTF-8", "jsonl:\udcff.jsonl", "holds a byte that is not UTF-8"),
        text("a text that is a device", "jsonl:/dev/zero", "is not a file"),
        text("a dataset with a path", "asset:sae-probes/../../x", "dataset"),
        text("a dataset of the hub with many parts", "hf:a:b:c:d:e:f", "Cannot read"),
        text("a dataset of the hub with a path", "hf:../../../etc/passwd:" + "a:" * 5000, "Cannot read"),
    ]


def _hooks() -> list[Case]:
    def hook(name: str, site: str, *says: str) -> Case:
        return _case(name, lambda place, around: ["--hook", site], *says)

    return [
        hook("a hook of nothing", "", "--hook"),
        hook("a hook in no block", "blocks.3.hook_resid_post.x", "is not a hook that saebench can splice"),
        hook("a hook in a block of 5,000 digits", f"blocks.{'9' * 5000}.hook_resid_post", "is not a hook"),
        hook("a hook in a block that is not there", "blocks.99.hook_resid_post", "There is no hook"),
        hook("a hook in a block of another script", "blocks.\u0663.hook_resid_post", "is not a hook"),
        hook("a hook with a byte that is not UTF-8", "blocks.1.\udcff", "holds a byte that is not UTF-8"),
        _sae(
            "a hook of a control that is not there", "baseline:pca?hook=blocks.99.hook_resid_post", "There is no hook"
        ),
        _sae("a hook deep inside", f"baseline:permuted-decoder(baseline:pca?hook={'x' * 5000})", "is not a hook"),
    ]


_RAISES = {
    "half a surrogate pair": "raise ValueError('\\ud83d')",
    "a million characters": "raise ValueError('x' * 10**6)",
    "escape sequences": "raise ValueError('\\x1b[31m\\x07')",
    "an error without a text": "raise type('E', (Exception,), {'__str__': lambda self: 1 / 0})",
    "the end of the program": "raise SystemExit(0)",
    "the end of all programs": "raise type('E', (BaseException,), {})()",
    "an endless recursion": "build()",
    "no memory": "raise MemoryError",
}


def _code() -> list[Case]:
    def raises(name: str, code: str) -> Case:
        def given(place: Path, around: Surroundings) -> Sequence[str]:
            (place / "code.py").write_text(f"def build():\n    {code}\n")
            return ["--sae", f"python:{place / 'code.py'}:build", "--sae", "baseline:neurons"]

        return _case(f"code that raises {name}", given, codes=SOME_FAILED, dry=False)

    def imports(place: Path, around: Surroundings) -> Sequence[str]:
        (place / "code.py").write_text(f"open({str(place / EXECUTED)!r}, 'w').close()\ndef build(): ...\n")
        return ["--sae", f"python:{place / 'code.py'}:build"]

    return [
        *(raises(name, code) for name, code in _RAISES.items()),
        _case("code in a run that is only planned", imports, codes=frozenset({0})),
        _sae("code without a function", "python:os", "must read python:"),
        _sae("code in a missing file", "python:./missing.py:build", "does not exist"),
        _sae("code in a module that is not there", "python:no_such_module:build", "there is no module"),
        _sae("code of the home of nobody", "python:~no-such-user/x.py:build", "does not exist"),
        _sae("code with an expression", "python:os:system('true')", "must read python:"),
    ]
