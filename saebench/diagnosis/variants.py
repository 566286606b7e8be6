"""The table of variants: what is commonly got wrong when an SAE is loaded, and what undoes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from saebench.capabilities import Capability
from saebench.diagnosis import fixes, undone
from saebench.diagnosis.activations import Activations, Source
from saebench.diagnosis.parts import Parts, is_gated, is_scale_free, parts_of, selects_k
from saebench.diagnosis.published import Published
from saebench.diagnosis.sites import other_hooks
from saebench.diagnosis.undone import Reconstruct
from saebench.errors import SAELoadError
from saebench.sae.affine.activations import JumpReLU
from saebench.sae.centred import CentredSAE
from saebench.sae.protocol import SAE
from saebench.sae.ref import Reference

_FEW_TOKENS = 64  # on which an SAE that was taken apart must do what it did
_GAIN = 1.25  # a factor of the reconstruction that is nearer to 1 is shrinkage, and no mistake of loading
_KS = (16, 32, 64, 128, 256)  # what a missing selection may have kept


@dataclass(frozen=True)
class Variant:
    """The SAE with one thing changed.

    Attributes:
        family: What kind of mistake it undoes.
        label: Its name in the table.
        finding: What would be true if it fits best, as the rest of "It looks as if ...".
        fix: What to write then.
        source: Which activations it reads, and what it is compared with.
        judged: Whether it can win. A row that is not judged is for information.
        fitted: Whether one of its numbers is chosen for the text, so that it may fit well without being the mistake.
    """

    family: str
    label: str
    finding: str
    fix: str
    source: Source
    judged: bool = True
    fitted: bool = False


# A variant and what it does. The second holds weights, so nothing keeps it once it is measured.
Variants = Iterator[tuple[Variant, Reconstruct]]


@dataclass(frozen=True)
class Case:
    """An SAE under diagnosis.

    Attributes:
        ref: Its reference.
        sae: The SAE as it is loaded.
        activations: The activations of the language model.
        published: What is known of its numbers.
        ignores_mean: Whether the mean of a token over its dimensions changes nothing that the language model computes.
        gain: The factor of its reconstruction that fits best, where it is known already.
    """

    ref: Reference
    sae: SAE
    activations: Activations
    published: Published
    ignores_mean: bool = False
    gain: float = 1.0

    @property
    def source(self) -> Source:
        """The activations that the loaded SAE reads, and those that its reconstruction is compared with."""
        return Source(self.sae.hook.site_in, self.sae.hook.site_out)

    @property
    def loaded(self) -> Reconstruct:
        """The latents and the reconstruction of the SAE as it is loaded."""
        return undone.as_loaded(self.sae)

    @cached_property
    def x(self) -> Tensor:
        """The evaluated tokens that the SAE reads, ``[tokens, d_in]``."""
        return self.activations.tokens(self.source.site_in)

    @cached_property
    def parts(self) -> Parts | None:
        """The settings of the SAE, where it can be taken apart."""
        pointwise = Capability.POSITION_WISE in self.sae.capabilities
        return parts_of(self.sae, self.x[:_FEW_TOKENS]) if pointwise else None

    @cached_property
    def factor(self) -> float:
        """The factor that gives activations the mean norm sqrt(d), as trainings estimate it (2408.05147)."""
        return _to_root_of_width(self.x)

    @cached_property
    def factor_out(self) -> float:
        """The same for what the SAE is compared with."""
        return _to_root_of_width(self.activations.tokens(self.source.site_out))

    def variant(
        self,
        family: str,
        label: str,
        finding: str,
        fix: str,
        reconstruct: Reconstruct | Parts | None,
        source: Source | None = None,
        judged: bool = True,
        fitted: bool = False,
    ) -> Variants:
        """Yield a variant; nothing where there is none to make."""
        if isinstance(reconstruct, Parts):
            try:
                reconstruct = undone.as_loaded(reconstruct.sae())
            except SAELoadError:  # numbers that overflow, such as exp(threshold)
                return
        if reconstruct is not None:
            yield Variant(family, label, finding, fix, source or self.source, judged, fitted), reconstruct


Rule = Callable[[Case], Variants]


def _to_root_of_width(x: Tensor) -> float:
    return float(x.shape[-1] ** 0.5 / x.norm(dim=-1).mean())


def _other_hook(case: Case) -> Variants:
    widths = (case.sae.d_in, case.sae.d_out)
    for hook in other_hooks(case.sae.hook):
        source = Source(hook.site_in, hook.site_out)
        if not case.activations.has(source):
            continue
        if widths != (case.activations.width(hook.site_in), case.activations.width(hook.site_out)):
            continue
        finding = f"it was trained at {hook}"
        yield from case.variant("hook", f"at {hook}", finding, fixes.other_hook(case.ref, hook), case.loaded, source)


def _bos(case: Case) -> Variants:
    without = replace(case.source, bos=False)
    if case.activations.has(without):
        fix = "train or choose an SAE whose sequences begin with a BOS token, because those of saebench do"
        finding = "it was trained on sequences without a BOS token"
        yield from case.variant("bos", "sequences without a BOS token", finding, fix, case.loaded, without)
    counted = replace(case.source, first_counts=True)
    yield from case.variant("bos", "the BOS position counts, too", "", "", case.loaded, counted, judged=False)


def _scale(case: Case) -> Variants:
    factor, out = case.factor, case.factor_out
    label = f"input x {factor:.4g}, output / {out:.4g}"
    finding = f"it was trained on activations times about {factor:.4g} (mean norm sqrt(d)), which is not applied"
    fix = fixes.other_scale(case.ref, factor)
    yield from case.variant("scale", label, finding, fix, undone.scaled(case.loaded, factor, out))
    label = f"input / {factor:.4g}, output x {out:.4g}"
    finding = f"the scale of its training (about {factor:.4g}) is applied twice, or to an SAE that has none"
    fix = fixes.scale_left_out(case.ref, factor)
    yield from case.variant("scale", label, finding, fix, undone.scaled(case.loaded, 1 / factor, 1 / out))
    if not 1 / _GAIN < case.gain < _GAIN and case.gain > 0:
        finding = f"its reconstruction is {1 / case.gain:.4g} times as large as it must be"
        fix = "look for a scale that is undone in the encoder only, or in the decoder only"
        changed = undone.rescaled(case.loaded, case.gain)
        yield from case.variant("scale", f"output x {case.gain:.4g}", finding, fix, changed, fitted=True)


def _normalisation(case: Case) -> Variants:
    if case.sae.hook.crosses:
        return  # what a transcoder writes is not normalised in the way of what it reads
    for setting, change, what in (
        ("layer_norm", undone.layer_normed, "each token to mean 0 and deviation 1"),
        ("norm_rescale", undone.of_constant_norm, "each token to the norm sqrt(d)"),
    ):
        finding = f"its training scaled {what}, which is not applied"
        fix = fixes.changed_setting(case.ref, setting)
        yield from case.variant("normalisation", what, finding, fix, change(case.loaded))
    if case.parts is not None and case.parts.normalisation is not None:
        plain = replace(case.parts, normalisation=None)
        finding = "its training did not normalise tokens"
        yield from case.variant(
            "normalisation", "no normalisation of tokens", finding, "leave out what normalises tokens", plain
        )


def _centring(case: Case) -> Variants:
    if isinstance(case.sae, CentredSAE):
        finding = "its language model was not centred, although its metadata says so"
        fix = 'write "center_writing_weights": false into the metadata of cfg.json'
        yield from case.variant(
            "centring", "the mean of each token kept", finding, fix, undone.as_loaded(case.sae.inner)
        )
    elif not case.sae.hook.crosses:
        finding = "it was trained on weights as TransformerLens centres them, without the mean of each token"
        fix = fixes.centring(case.ref, case.ignores_mean)
        yield from case.variant("centring", "each token without its mean", finding, fix, undone.centred(case.loaded))


def _pre_bias(case: Case) -> Variants:
    on: Parts | Reconstruct | None
    off: Parts | Reconstruct | None
    if case.parts is not None:
        on, off = undone.pre_bias_subtracted(case.parts), undone.pre_bias_left_out(case.parts)
    elif {Capability.LINEAR_DECODER, Capability.POSITION_WISE} <= case.sae.capabilities and not case.sae.hook.crosses:
        bias = case.sae.decode(torch.zeros(1, case.sae.d_sae), case.x[:1])[0]
        on, off = (undone.shifted(case.loaded, sign * bias) for sign in (1, -1))
    else:
        return
    finding = "b_dec has to be subtracted before the encoder, which is not done"
    fix = fixes.changed_setting(case.ref, "pre_bias")
    yield from case.variant("pre-bias", "x - b_dec before the encoder", finding, fix, on)
    finding = "b_dec is subtracted before the encoder, and must not be"
    fix = fixes.changed_setting(case.ref, "no_pre_bias")
    yield from case.variant("pre-bias", "nothing subtracted before the encoder", finding, fix, off)


def _decoder_norm(case: Case) -> Variants:
    if (parts := case.parts) is None:
        return
    finding = "its selection or threshold is in units of p ||W_dec||, and is applied to p"
    fix = fixes.changed_setting(case.ref, "norm_units")
    yield from case.variant("decoder norm", "selection by p ||W_dec||", finding, fix, undone.in_norm_units(parts))
    finding = "its selection or threshold is in units of p, and is applied to p ||W_dec||"
    fix = fixes.changed_setting(case.ref, "raw_units")
    yield from case.variant("decoder norm", "selection by p", finding, fix, undone.in_raw_units(parts))
    finding = "the rows of its decoder are meant to be unit vectors"
    fix = "divide the rows of W_dec by their norms"
    yield from case.variant("decoder norm", "unit rows of W_dec", finding, fix, undone.unit_rows(parts))


def _transposed(case: Case) -> Variants:
    if (parts := case.parts) is None:
        return
    for label, what, change in (
        ("W_enc transposed", "W_enc is", undone.encoder_transposed),
        ("W_dec transposed", "W_dec is", undone.decoder_transposed),
        ("W_enc and W_dec transposed", "W_enc and W_dec are", undone.both_transposed),
    ):
        finding = f"{what} the transpose of what is needed"
        yield from case.variant("transpose", label, finding, f"load it with {label}", change(parts))
    finding = "W_enc is wrong, and the transpose of W_dec fits in its place"
    yield from case.variant(
        "transpose", "W_enc = W_dec.T", finding, "look at how W_enc is read", undone.tied_encoder(parts)
    )
    finding = "W_dec is wrong, and the transpose of W_enc fits in its place"
    yield from case.variant(
        "transpose", "W_dec = W_enc.T", finding, "look at how W_dec is read", undone.tied_decoder(parts)
    )


def _selection(case: Case) -> Variants:
    parts, l0 = case.parts, case.published.l0
    if parts is None or is_gated(parts.activation):
        return
    known = [] if l0 is None else [max(1, round(l0))]
    for k in known or (_KS if is_scale_free(parts.activation) else ()):
        told = f"k is {k}" if selects_k(parts.activation) else f"it is a TopK SAE with k = {k}"
        finding = f"{told}{'' if known else ' or near'}, which is not applied"
        fix = fixes.other_k(case.ref, k)
        yield from case.variant(
            "selection", f"the {k} largest latents", finding, fix, undone.with_k(parts, k), fitted=True
        )
    if l0 is not None and not selects_k(parts.activation):
        threshold = undone.threshold_for(parts, case.x, l0)
        if threshold is not None:
            finding = f"its threshold is wrong or missing; with {float(threshold):.3g} for all latents, L0 is {l0:.3g}"
            fix = f"look for its thresholds, or set them to {float(threshold):.3g}"
            changed = undone.with_threshold(parts, threshold)
            label = f"one threshold, {float(threshold):.3g}"
            yield from case.variant("selection", label, finding, fix, changed, fitted=True)
    if isinstance(parts.activation, JumpReLU):
        yield from _other_threshold(case, parts, parts.activation.threshold)
    finding = "it is a ReLU SAE"
    fix = "load it with ReLU"
    yield from case.variant("selection", "every positive latent", finding, fix, undone.without_selection(parts))


def _other_threshold(case: Case, parts: Parts, threshold: Tensor) -> Variants:
    factor = case.factor
    for label, value, what in (
        ("exp(threshold)", threshold.exp(), "is stored as a logarithm"),
        (f"threshold x {factor:.4g}", threshold * factor, "is in units of the raw activations"),
        (f"threshold / {factor:.4g}", threshold / factor, "is in units of scaled activations"),
    ):
        changed = undone.with_threshold(parts, value)
        yield from case.variant("selection", label, f"its threshold {what}", f"load it with {label}", changed)


# The order is that of equal rows in the table.
RULES: tuple[Rule, ...] = (
    _other_hook,
    _bos,
    _scale,
    _normalisation,
    _centring,
    _pre_bias,
    _decoder_norm,
    _transposed,
    _selection,
)


def as_loaded(case: Case) -> Variant:
    """Return the SAE as it is loaded, as a row of the table."""
    return Variant("loaded", "as loaded", "", "", case.source)


def variants(case: Case) -> Variants:
    """Yield all variants of the SAE that can be made."""
    for rule in RULES:
        yield from rule(case)
