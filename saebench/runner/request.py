"""What a user asks for. It is validated before anything heavy is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_core import PydanticCustomError

from saebench.budget import CACHE, MEMORY, Budget, format_bytes, parse_bytes
from saebench.errors import UsageError, did_you_mean
from saebench.results import DEFAULT_FOLDER

DEFAULT_MODEL = "asset:gemma-3-270m"
MIN_MEMORY = 64 * 10**6


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
    seed: list[Annotated[int, Field(ge=0)]] = Field(default_factory=lambda: [0], min_length=1)
    device: str = "auto"
    dtype: str = "auto"
    limit: int | None = Field(default=None, ge=2)
    batch_size: int | None = Field(default=None, ge=1)  # None: chosen from the model and the memory budget
    memory_budget: int = MEMORY  # bytes; text such as "1.5GB" is allowed, too
    cache_budget: int = CACHE
    overwrite: Literal["missing", "failed", "always"] = "missing"
    parameters: dict[str, dict[str, Any]] = Field(default_factory=dict)

    @field_validator("out")
    @classmethod
    def _home(cls, out: Path) -> Path:
        """Expand ``~``, which no shell does in a config file."""
        return out.expanduser()

    @field_validator("memory_budget", "cache_budget", mode="before")
    @classmethod
    def _bytes(cls, size: Any) -> int:
        try:
            return parse_bytes(size)
        except UsageError as error:
            raise PydanticCustomError("budget", "{reason}", {"reason": str(error)}) from error

    @field_validator("memory_budget")
    @classmethod
    def _enough(cls, size: int) -> int:
        if size < MIN_MEMORY:
            reason = f"{format_bytes(size)} of working memory is too little for any model; give 64 MB or more."
            raise PydanticCustomError("budget", "{reason}", {"reason": reason})
        return size

    def budget(self) -> Budget:
        """The memory and disk that the run may use. It does not affect numbers or identities of records."""
        return Budget(memory=self.memory_budget, cache=self.cache_budget)

    def arguments(self) -> dict[str, Any]:
        """The options that the user gave, for the provenance of records; the folder of results is left out."""
        return self.model_dump(mode="json", exclude_unset=True, exclude={"out"})


def make_request(options: dict[str, Any], config: Path | None = None) -> RunRequest:
    """Return the request of ``options`` and, where these say nothing, of a YAML config file.

    Raises UsageError that names the path of the key that is wrong.
    """
    merged = {**(_read_config(config) if config else {}), **options}
    try:
        return RunRequest.model_validate(merged)
    except ValidationError as error:
        raise UsageError(_explain(error, config)) from error


def _read_config(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"The config file {path} cannot be read: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"The config file {path} is not valid YAML: {' '.join(str(error).split())}") from error
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
    if first["type"] == "extra_forbidden":
        return f"Unknown option {key!r}{where}.{did_you_mean(str(first['loc'][-1]), RunRequest.model_fields)}"
    if first["type"] == "budget":  # its message names the value already
        return f"Option {key!r}{where}: {first['msg']}"
    return f"Option {key!r}{where}: {first['msg']} (got {first['input']!r})."
