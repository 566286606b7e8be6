"""What a user asks for. It is validated before anything heavy is loaded."""

from __future__ import annotations

from collections.abc import Iterator, Set
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_core import PydanticCustomError

from saebench.budget import CACHE, MEMORY, Budget, format_bytes, parse_bytes
from saebench.errors import UsageError, did_you_mean, shown
from saebench.files import text_or_raise
from saebench.results import DEFAULT_FOLDER
from saebench.sae.group_ref import parse_sae_group
from saebench.sae.reference import SAERef, parse_sae_ref
from saebench.yaml_file import read_yaml

DEFAULT_MODEL = "asset:gemma-3-270m"
MIN_MEMORY = 64 * 10**6
_MANY = 10**9  # more sequences than any text has
_OWN = "saebench"  # the type of the errors whose message names the value already


class RunRequest(BaseModel):
    """The options of ``saebench run``, of its config file, and of `saebench.run`. None means the default."""

    model_config = ConfigDict(extra="forbid")

    suite: str = "quick"
    tasks: Annotated[list[str], Field(min_length=1)] | None = None
    sae: Annotated[list[str], Field(min_length=1)] | None = None
    sae_group: Annotated[list[str], Field(min_length=1)] | None = None
    model: str = DEFAULT_MODEL
    hook: str | None = None
    preset: str | None = None
    text: str | None = None
    out: Path = DEFAULT_FOLDER
    seed: list[Annotated[int, Field(ge=0, lt=2**63)]] = Field(default_factory=lambda: [0], min_length=1)
    device: str = "auto"
    dtype: str = "auto"
    limit: int | None = Field(default=None, ge=2, le=_MANY)
    batch_size: int | None = Field(default=None, ge=1, le=_MANY)  # None: chosen from the model and the memory budget
    memory_budget: int = MEMORY  # bytes; text such as "1.5GB" is allowed, too
    cache_budget: int = CACHE
    overwrite: Literal["missing", "failed", "always"] = "missing"
    shard: str | None = None  # "I/N": only this part of the jobs
    parameters: dict[str, dict[str, Any]] = Field(default_factory=dict)
    trust_remote_code: bool = False  # Python code that comes with the language model may run
    allow_python: bool = False  # the config file may name SAEs whose code then runs

    @field_validator("out")
    @classmethod
    def _home(cls, out: Path) -> Path:
        """Expand ``~``, which no shell does in a config file."""
        if "\0" in str(out):
            raise _wrong("no folder can have a zero byte in its name.")
        try:
            return out.expanduser()
        except RuntimeError as error:
            raise _wrong(f"there is no user {out.parts[0][1:]!r}, whose home folder {str(out)!r} names.") from error

    @field_validator("memory_budget", "cache_budget", mode="before")
    @classmethod
    def _bytes(cls, size: Any) -> int:
        try:
            return parse_bytes(size)
        except UsageError as error:
            raise _wrong(str(error)) from error

    @field_validator("memory_budget")
    @classmethod
    def _enough(cls, size: int) -> int:
        if size < MIN_MEMORY:
            raise _wrong(f"{format_bytes(size)} of working memory is too little for any model; give 64 MB or more.")
        return size

    def budget(self) -> Budget:
        """The memory and disk that the run may use. It does not affect numbers or identities of records."""
        return Budget(memory=self.memory_budget, cache=self.cache_budget)

    def arguments(self) -> dict[str, Any]:
        """The options that the user gave, for the provenance of records; the folder of results is left out."""
        return self.model_dump(mode="json", exclude_unset=True, exclude={"out"})


def make_request(options: dict[str, Any], config: Path | None = None) -> RunRequest:
    """Return the request of ``options`` and, where these say nothing, of a YAML config file.

    A file may come from somebody else, so it cannot let code run: see `_refuse_code`.

    Raises UsageError that names the path of the key that is wrong.
    """
    content = _read_config(config) if config else {}
    merged = {**content, **options}
    for name, value in merged.items():
        if name not in RunRequest.model_fields:
            where = f" in {config}" if name in content else ""
            raise UsageError(f"Unknown option {name!r}{where}.{did_you_mean(name, RunRequest.model_fields)}")
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and name != "out":
                text_or_raise(text, f"value of {name}")
    try:
        request = RunRequest.model_validate(merged)
    except ValidationError as error:
        raise UsageError(_explain(error, config)) from error
    if config is not None:
        _refuse_code(request, content.keys() - options.keys(), config)
    return request


def _refuse_code(request: RunRequest, from_file: Set[str], config: Path) -> None:
    """Raise UsageError when a config file allows code to run, or names code that the command line does not name.

    Args:
        request: The request.
        from_file: The options that the file gives and the command line does not.
        config: The file.
    """
    for name in ("trust_remote_code", "allow_python"):
        if name in from_file:
            raise UsageError(
                f"Option {name!r} in {config}: a file cannot allow code to run; give --{name.replace('_', '-')} on the "
                "command line."
            )
    if request.allow_python:
        return
    named, trusted = list[SAERef](), set[SAERef]()
    for name in ("sae", "sae_group"):
        code = [_innermost(ref) for ref in _references(request, name) if ref.runs_code]
        if name in from_file:
            named += code
        else:
            trusted |= set(code)
    for ref in named:
        if ref not in trusted:
            raise UsageError(
                f"{config} names {ref}, which is code that the run would execute; if you trust it, give --allow-python "
                "or name it on the command line."
            )


def _references(request: RunRequest, name: str) -> Iterator[SAERef]:
    """The SAEs of the option ``sae`` or ``sae_group``, without those that are wrong, which the plan refuses."""
    for text in getattr(request, name) or ():
        try:
            yield from parse_sae_group(text).members if name == "sae_group" else (parse_sae_ref(text),)
        except UsageError:
            continue


def _innermost(ref: SAERef) -> SAERef:
    """Return the reference that names the code: ``ref``, or one inside it."""
    return _innermost(ref.inner) if ref.inner is not None and ref.inner.runs_code else ref


def _wrong(reason: str) -> PydanticCustomError:
    """Return the error of a validator; ``reason`` names the value."""
    return PydanticCustomError(_OWN, "{reason}", {"reason": reason})


def _read_config(path: Path) -> dict[str, Any]:
    content = read_yaml(path, "config file")
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UsageError(
            f"The config file {path} must hold options like `sae: [zoo:topk-k32-s0]`, not a {type(content).__name__}."
        )
    # A single value may stand for a list of one.
    for key in ("sae", "sae_group", "tasks", "seed"):
        if key in content and content[key] is not None and not isinstance(content[key], list):
            content[key] = [content[key]]
    return content


def _explain(error: ValidationError, config: Path | None) -> str:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    where = f" in {config}" if config else ""
    if first["type"] == _OWN:
        return f"Option {key!r}{where}: {first['msg']}"
    return f"Option {key!r}{where}: {first['msg']} (got {shown(first['input'])})."
