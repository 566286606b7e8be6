"""Suggestions for somebody who wrote a reference without a scheme, or took a language model for an SAE or vice versa.

Nothing is loaded and nothing is looked up on a network: files on this machine, the zoo, the assets, and SAELens'
directory tell what a name may mean.
"""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path
from urllib.parse import unquote

from saebench.files import existing_path, storable_text
from saebench.safe_text import visible

_SHOWN = 3  # candidates in a message
_LONGEST = 1000  # characters of a text that may be a name
_URL = re.compile(
    r"https?://[^/\s]+/(?P<repository>[\w.-]+/[\w.-]+)(?:/(?:tree|blob|resolve|raw)/(?P<revision>[^/\s?#]+))?"
    r"(?:/(?P<path>[^\s?#]+))?/?(?:[?#]\S*)?",
    re.ASCII,
)
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(?:@[\w.-]+)?(?:/.+)?", re.ASCII)
_WEIGHTS = (".safetensors", ".npz", ".pt", ".pth", ".bin", ".ckpt")


def about_sae(text: str) -> str:
    """Return a sentence on what to write instead of ``text``, which names no scheme; empty if nothing is known."""
    if len(text) > _LONGEST:
        return ""
    body, mark, query = text.partition("?")
    if (path := existing_path(body)) is not None:
        return _about_path(path, body, mark + query)
    if match := _URL.fullmatch(text):
        return _about_place(match["repository"], match["revision"], unquote(match["path"] or "").strip("/"))
    if _looks_like_path(body):
        return f"There is no file or folder {visible(body)} on this machine."
    return _about_name(text) or _about_repository(text)


def about_model(text: str) -> str:
    """Return a sentence on what to write instead of ``text``, given as a language model; empty if nothing is known."""
    from saebench.sae.registry import scheme_registry
    from saebench.sae.zoo import zoo_names

    if len(text) > _LONGEST:
        return ""
    scheme, colon, _ = text.partition(":")
    if colon and scheme in scheme_registry().names() and scheme != "hf":
        text = visible(text)
        return f"{text} is an SAE, and not a language model; give it as --sae {text}, and name its model with --model."
    if text in zoo_names():
        return f"{text} is an SAE, and not a language model; give it as --sae zoo:{text}."
    path = existing_path(text)
    if path is not None and (formats := _formats(path)):
        references = _listed([f"--sae {reference}" for reference in formats])
        return f"{visible(text)} holds an SAE, and not a language model; give it as {references}."
    if match := _URL.fullmatch(text):
        revision = match["revision"]
        name = match["repository"] + (f"@{revision}" if revision and revision != "main" else "")
        return f"Did you mean 'hf:{name}'?"
    if path is None and text in _assets():
        return f"Did you mean 'asset:{text}'?"
    if path is None and _REPOSITORY.fullmatch(text) and text.count("/") == 1 and not _looks_like_path(text):
        return f"Did you mean 'hf:{text}'?"
    return ""


def _about_path(path: Path, text: str, options: str) -> str:
    if formats := _formats(path):
        return _meant([f"{reference}{options}" for reference in formats])
    text = visible(text)
    if (path / "config.json").is_file():
        return (
            f"{text} exists, but holds no SAE of a format that saebench recognises; if it is a language model, give it "
            f"as --model {text}."
        )
    return (
        f"{text} exists, but its files are of no format that saebench recognises; if you know the format, write its "
        "scheme in front (`saebench saes` lists them), or describe it by a map: file:PATH?map=FILE.yaml."
    )


def _formats(path: Path) -> list[str]:
    """The references that what lies at ``path`` may have."""
    from saebench.sae.recognise import file_to_name, recognise

    try:
        return [f"{name}:{file_to_name(path, name)}" for name in recognise(path)]
    except (OSError, ValueError):  # a folder that cannot be read
        return []


def _about_name(text: str) -> str:
    """Say which reference was meant by the name of an SAE of the zoo, of a language model, or of a release."""
    from saebench.sae.directory import releases
    from saebench.sae.zoo import zoo_names

    name = text.partition("?")[0]
    if name in zoo_names():
        return _meant([f"zoo:{text}"])
    if text.startswith("asset:") or text in _assets():
        model = text.removeprefix("asset:")
        return f"{text} is a language model, and not an SAE; give it as --model asset:{model}. {_searched(model)}"
    release, slash, sae_id = name.partition("/")
    if release in releases():
        ids = [sae[0] for sae in releases()[release]["saes"]]
        if sae_id in ids:
            return _meant([f"sae_lens:{text}"])
        if slash and (near := difflib.get_close_matches(sae_id, ids, n=1)):
            return _meant([f"sae_lens:{release}/{near[0]}"])
        return f"{release} is a release of SAELens; write sae_lens:{release}/ID, such as sae_lens:{release}/{ids[0]}."
    if any(name == entry["model"] or name == entry["model"].partition("/")[2] for entry in releases().values()):
        return _is_model(name)
    # In front of a colon stands a misspelt scheme, which is told otherwise.
    close = difflib.get_close_matches(name, zoo_names(), n=1) if ":" not in name else []
    return _meant([f"zoo:{close[0]}"]) if close else ""


def _about_repository(text: str) -> str:
    if not _REPOSITORY.fullmatch(text):
        return ""
    organisation, _, rest = text.partition("/")
    repository, _, path = rest.partition("/")
    repository, _, revision = repository.partition("@")
    return _about_place(f"{organisation}/{repository}", revision or None, path)


def _about_place(repository: str, revision: str | None, path: str) -> str:
    """Say which reference was meant by a place on the hub."""
    from saebench.sae.directory import releases

    named = [(release, entry) for release, entry in releases().items() if entry["repo_id"] == repository]
    if not named and any(repository in (entry["model"], _of_model(entry["model"])) for entry in releases().values()):
        return _is_model(repository)
    at = f"@{revision}" if revision and revision != "main" else ""
    if path:
        found = [f"sae_lens:{release}/{sae[0]}" for release, entry in named for sae in entry["saes"] if sae[1] == path]
        # A canonical SAE has two names in the directory, so one of them is enough.
        return _meant([*([] if at else found[:1]), f"hf:{repository}{at}/{path}"])
    if named:
        names = _listed([f"{release} (such as sae_lens:{release}/{entry['saes'][0][0]})" for release, entry in named])
        return f"{repository} holds many SAEs, which SAELens lists as {names}; or write hf:{repository}{at}/PATH."
    return (
        f"If {repository} is a repository of SAEs on the hub, write hf:{repository}{at}/PATH; if it is a language "
        f"model, give it as --model hf:{repository}{at}."
    )


def _of_model(name: str) -> str:
    """The name of a language model with its organisation, where SAELens leaves that out."""
    return f"google/{name}" if name.startswith("gemma") else name


def _is_model(name: str) -> str:
    from saebench.sae.directory import releases

    full = next((e["model"] for e in releases().values() if e["model"].partition("/")[2] == name), _of_model(name))
    model = f"hf:{full}" if "/" in full else "hf:ORG/NAME"
    return (
        f"{name} is a language model, and not an SAE; give it as --model {model}. {_searched(name.rpartition('/')[2])}"
    )


def _searched(model: str) -> str:
    return f"`saebench saes --search {model}` lists SAEs of it."


def _meant(references: list[str]) -> str:
    return f"Did you mean {_listed([repr(reference) for reference in references])}?"


def _listed(items: list[str]) -> str:
    shown = items[:_SHOWN]
    more = f" (and {len(items) - _SHOWN} more)" if len(items) > _SHOWN else ""
    return (" or ".join(shown) if len(shown) < 3 else f"{', '.join(shown[:-1])} or {shown[-1]}") + more


def _looks_like_path(text: str) -> bool:
    if text.startswith((".", "/", "~")) or text.endswith(_WEIGHTS) or "\\" in text:
        return True
    try:
        return os.path.isdir(os.path.dirname(storable_text(text)) or "\0")
    except ValueError:
        return False


def _assets() -> list[str]:
    """The names of language models among the assets."""
    from saebench.data import assets

    return [name for name, asset in assets.manifest().items() if asset.gguf is not None]
