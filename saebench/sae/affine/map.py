"""Maps: the description of a format of affine SAEs in a YAML file, in place of code.

``saebench/sae/maps/`` holds those of published formats. A user writes one for an odd file and gives it with
``?map=my.yaml``. ``docs/adapters.md`` explains the fields by example.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from saebench.errors import UsageError
from saebench.files import read_small_text
from saebench.yaml_file import parse_yaml_documents

FOLDER = Path(__file__).resolve().parent.parent / "maps"
ActivationKind = Literal["relu", "jumprelu", "topk", "signed_topk", "batchtopk", "abstopk", "groupmax", "gated"]
Keys = str | tuple[str, ...]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Source(_Strict):
    """Where a value is read from. The first source that gives one counts, then ``default``.

    Attributes:
        config: A key of the config file, or several, of which the first that is there counts. Dots go into objects,
            such as ``trainer.k``.
        tensor: The name of a tensor with one element, or of a plain value in a pickle. ``{KEY}`` in it stands for the
            value of that key of the config, and dots go into dicts.
        has: The name of a tensor, in which ``*`` stands for any text; the value is "true" or "false".
        path: A regular expression with one group, searched in the path of the weights (with forward slashes).
        search: A regular expression with one group, searched in the text that was read; without a match there is no
            value.
        prefix: What is put before the text.
        suffix: What is put after it.
        names: What the texts of the source mean, such as ``{jump_relu: jumprelu}``. A text that is not there is looked
            up in small letters.
        default: The value if no source gives one.
    """

    config: Keys | None = None
    tensor: str | None = None
    has: str | None = None
    path: str | None = None
    search: str | None = None
    prefix: str = ""
    suffix: str = ""
    names: dict[str, Any] | None = None
    default: Any = None

    @field_validator("path", "search")
    @classmethod
    def _pattern(cls, value: str | None) -> str | None:
        if value is None:
            return None
        try:
            groups = re.compile(value).groups
        except re.error as error:
            raise ValueError(f"this is no regular expression ({error})") from error
        if groups != 1:
            raise ValueError(f"the expression must have one group, not {groups}")
        return value


class When(_Strict):
    """A condition: a value that is one of some texts, or a path that matches.

    Attributes:
        config: A key of the config file, or several, as in `Source`.
        tensor: The name of a plain value in a pickle, as in `Source`.
        values: The texts of the value that fulfil the condition; a boolean is "true" or "false".
        absent: Whether the condition holds where the key is missing or null.
        has: The name of a tensor that the file must hold, in which ``*`` stands for any text.
        path: A regular expression that the path of the weights must contain.
    """

    config: Keys | None = None
    tensor: str | None = None
    values: tuple[str, ...] = ()
    absent: bool = False
    has: str | None = None
    path: str | None = None


Number = float | int | Source
Text = str | Source


class Tensor(_Strict):
    """One tensor of the file. In YAML it may be written as ``KEY`` or, for the transpose, ``KEY.T``.

    Attributes:
        key: Its name in the file.
        transpose: Whether the file holds the transpose of saebench's layout.
        exp: Whether the file holds the logarithm.
        unit_rows: Whether rows whose norms are all within 5 % of 1 are made unit vectors, because the library does so
            when it leaves training. Where a norm is further away, the rows stay as they are.
        log_factor: The name of a tensor with one element: the logarithm of a factor of this tensor, if it is there.
        flatten: Whether leading dimensions are merged, such as the heads of ``W_enc[heads, d_head, d_sae]``.
        optional: Whether the file may lack it.
    """

    key: str
    transpose: bool = False
    exp: bool = False
    unit_rows: bool = False
    log_factor: str | None = None
    flatten: bool = False
    optional: bool = False


def _short(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return {"key": value.removesuffix(".T"), "transpose": value.endswith(".T")}


Entry = Annotated[Tensor, BeforeValidator(_short)]


class Tensors(_Strict):
    """The tensors in saebench's layout: ``W_enc[d_in, d_sae]``, ``W_dec[d_sae, d_out]``, ``W_skip[d_in, d_out]``."""

    W_enc: Entry
    W_dec: Entry
    b_enc: Entry | None = None
    b_dec: Entry | None = None
    pre_bias: Entry | Literal["b_dec"] | None = None
    W_skip: Entry | None = None
    threshold: Entry | None = None
    r_mag: Entry | None = None
    b_gate: Entry | None = None
    b_mag: Entry | None = None

    @field_validator("pre_bias", mode="before")
    @classmethod
    def _decoder_bias(cls, value: Any) -> Any:
        return value if value is None or value == "b_dec" else _short(value)


class ActivationRule(_Strict):
    """The activation function.

    Attributes:
        kind: Its name. ``batchtopk`` is a JumpReLU whose threshold was estimated in training; one that was never
            estimated (absent, or not above 0) is refused. ``signed_topk`` is topk without relu. Where no source tells
            it, the reference must: by ``?k=``, ``?threshold=`` or ``?activation=``.
        ask: What the user is asked for then, as the end of a message, in place of all three.
        k: The number of active latents, for topk, signed_topk, abstopk and groupmax.
        threshold: A threshold that is not a tensor of the file.
        inclusive: Whether a pre-activation that equals the threshold passes, or the kinds of which that holds.
        decoder_norm: Whether selection and threshold are in units of ``p * ||W_dec||``, and of which decoder: "trained"
            is the one of the file, "raw" the one for raw activations, after the scale is folded in. "selection" is
            "trained" where the latents are divided by the norms again.
    """

    kind: ActivationKind | Source
    ask: str = ""
    k: Number | None = None
    threshold: Number | None = None
    inclusive: bool | tuple[ActivationKind, ...] = False
    decoder_norm: Literal["none", "trained", "raw", "selection"] | Source = "none"


class Scale(_Strict):
    """What the training multiplied activations by: ``factor``, or ``sqrt(d) / norm``.

    Attributes:
        factor: The factor of the input.
        norm: The mean norm of the input.
        factor_out: The factor of what a transcoder writes; by default that of the input.
        norm_out: The mean norm of what it writes; by default that of the input.
        when: When activations were scaled at all; always by default.
    """

    factor: Number | None = None
    norm: Number | None = None
    factor_out: Number | None = None
    norm_out: Number | None = None
    when: When | None = None

    @model_validator(mode="after")
    def _one(self) -> Scale:
        if (self.factor is None) == (self.norm is None):
            raise ValueError("a scale is either a factor or a norm")
        return self


class NormalisationRule(_Strict):
    """The normalisation of each token.

    Attributes:
        kind: Its name: ``layer_norm`` takes the mean out and divides by the standard deviation, and ``norm_rescale``
            gives each token the norm ``sqrt(d)``.
        eps: What ``layer_norm`` adds to the standard deviation.
        undone: Whether the reconstruction is put back to the mean and the scale of the token.
    """

    kind: Literal["none", "layer_norm", "norm_rescale"] | Source
    eps: float = 1e-5
    undone: bool | Source = True


class HookRule(_Strict):
    """One way to tell the hook. The first rule whose condition holds and whose values are all known counts.

    Attributes:
        site: The hook point. ``{layer}`` stands for the layer and ``{KEY}`` for a value of the config file. Names of
            modules of Hugging Face models are translated.
        site_out: Where a transcoder writes.
        when: When the rule applies; always by default.
    """

    site: Text
    site_out: Text | None = None
    when: When | None = None


class Refusal(_Strict):
    """A case of the format that saebench refuses, because it cannot run it faithfully.

    Attributes:
        when: The condition.
        why: The reason, as the end of a message, and what to do.
    """

    when: When
    why: str


class FormatMap(_Strict):
    """One format, or one variant of it. The first document of a YAML file whose condition holds describes an SAE.

    Attributes:
        name: The scheme of its references.
        title: What it is, in one line.
        source: Where the formula stands: a repository, a package or an arXiv id.
        weights: Names of the file of weights, with wildcards, in the order in which they are looked for.
        when: When this variant applies; always by default.
        config: Names of the config file likewise; ``../config.json`` is in the folder above, and ``{stem}`` stands for
            the name of the file of weights without its ending.
        within: The key of a pickled dict under which the tensors lie, unless the file holds ``W_enc`` itself. Values of
            the outer dict are found, too.
        json_line: Whether the file of weights begins with a line of JSON, which is the config then.
        refused: What is refused.
        tensors: The tensors.
        d_in: The width of the input, which the weights must have, where the files tell it.
        d_sae: The number of latents likewise.
        activation: The activation function.
        architecture: What tables call it; the activation's name by default.
        scale: What the training multiplied activations by.
        normalisation: The normalisation of each token.
        layer: The layer, for the rules of hooks.
        hooks: How the hook is told. Without a rule that fits, the reference must name it.
        model: The language model that it was trained on.
        example: A reference to copy.
    """

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    title: str
    source: str = ""
    weights: tuple[str, ...] = ("*.safetensors",)
    config: tuple[str, ...] = ()
    when: When | None = None
    within: str | None = None
    json_line: bool = False
    refused: tuple[Refusal, ...] = ()
    tensors: Tensors
    d_in: Number | None = None
    d_sae: Number | None = None
    activation: ActivationRule
    architecture: Text | None = None
    scale: Scale | None = None
    normalisation: NormalisationRule | None = None
    layer: Number | None = None
    hooks: tuple[HookRule, ...] = ()
    model: Text | None = None
    example: str = ""


Format = tuple[FormatMap, ...]  # the variants of one format, which share name, files and title


def read_map(path: Path) -> Format:
    """Return the variants in a YAML file. Raises UsageError that names the file, and the field that is wrong."""
    text = read_small_text(path, "map", UsageError)
    documents = parse_yaml_documents(text, f"The map {path}", UsageError)
    try:
        # What the first document says holds for the others, too, unless they say otherwise.
        first = documents[0] if documents and isinstance(documents[0], dict) else {}
        merged = [{**first, **item} if isinstance(item, dict) else item for item in documents]
        return tuple(FormatMap.model_validate(item) for item in merged or [None])
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"])) or "the document"
        raise UsageError(
            f"The map {path} cannot be used: {where}: {fault['msg'].removeprefix('Value error, ')}."
        ) from error


@cache
def built_in_maps() -> dict[str, Format]:
    """The maps of published formats, by name."""
    formats = [read_map(path) for path in sorted(FOLDER.glob("*.yaml"))]
    return {variants[0].name: variants for variants in formats}
