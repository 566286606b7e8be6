"""The conformance suite, which ``saebench check-adapter`` runs: what an SAE must do to be measured fairly.

Each check is a function from a `Subject` to a `CheckResult`. Capabilities that are not declared are not checked.
Comparisons are in float32 and allow 1e-4 of the largest value of each token.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from saebench.errors import NotApplicableError
from saebench.sae.adapt import set_default_control
from saebench.sae.base import check_fits
from saebench.sae.protocol import SAE, Capability, HookSite

TOLERANCE = 1e-4
FLIPS = 0.01  # the share of active latents that rounding may switch on or off at their threshold
SEQUENCES, POSITIONS = 2, 16


@dataclass(frozen=True)
class CheckResult:
    """What one check found."""

    name: str
    ok: bool  # True for a skipped check, too
    detail: str = ""
    skipped: bool = False


class Subject:
    """An SAE under test, which is loaded on first use, and inputs for it."""

    def __init__(
        self,
        factory: Callable[[], SAE],
        d_at: Callable[[str], int] | None = None,
        activations: Tensor | None = None,
    ) -> None:
        """Prepare a test; nothing is loaded yet.

        Args:
            factory: Loads the SAE anew at each call.
            d_at: Returns the width of the language model at a hook point; None without a language model.
            activations: Inputs ``[tokens, d_in]`` of at least 32 tokens. By default inputs are Gaussian with scales
                from 1 to 30, which may not reach the thresholds of some SAEs.
        """
        self.factory = factory
        self.d_at = d_at
        self._activations = activations

    @cached_property
    def sae(self) -> SAE:
        """The SAE, on the CPU. It counts as no control unless it says otherwise."""
        sae = self.factory()
        sae.to("cpu")
        set_default_control(sae, "The SAE")
        return sae

    def has(self, capability: Capability) -> bool:
        """Whether the SAE declares ``capability``."""
        return capability in self.sae.capabilities

    @cached_property
    def sequences(self) -> Tensor:
        """Inputs ``[2, 16, d_in]``."""
        shape = (SEQUENCES, POSITIONS, self.sae.d_in)
        if self._activations is not None:
            return self._activations[: SEQUENCES * POSITIONS].float().reshape(shape)
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        return noise * torch.logspace(0, 1.5, POSITIONS)[:, None]

    @cached_property
    def x(self) -> Tensor:
        """The inputs in the shape that the SAE takes: ``[32, d_in]`` if it is position-wise, else ``[2, 16, d_in]``."""
        return self.sequences.flatten(0, 1) if self.has(Capability.POSITION_WISE) else self.sequences

    @cached_property
    def z(self) -> Tensor:
        """The latents of the inputs."""
        return self.sae.encode(self.x)


def _accelerator() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _judge(name: str, problem: str | None) -> CheckResult:
    return CheckResult(name, problem is None, problem or "")


def _skip(name: str, why: str) -> CheckResult:
    return CheckResult(name, True, why, skipped=True)


def _gap(a: Tensor, b: Tensor, scale: Tensor) -> float:
    """The largest difference relative to the largest value of each token's ``scale``; inf where it is NaN."""
    size = scale.abs().amax(-1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
    return float(((a - b).abs() / size).nan_to_num(nan=float("inf")).max())


def _changed_share(a: Tensor, b: Tensor) -> float:
    """The share of active latents that differ by more than the tolerance."""
    size = torch.maximum(a.abs(), b.abs())
    differ = (a - b).abs() > TOLERANCE * size.amax(-1, keepdim=True)
    return float(differ.sum() / (size > 0).sum().clamp(min=1))


def check_attributes(subject: Subject) -> CheckResult:
    """Names, widths, hook, capabilities and ``control`` exist and have the right types."""
    sae: Any = subject.sae
    name = "attributes"
    for attribute in ("name", "architecture"):
        if not isinstance(getattr(sae, attribute, None), str) or not getattr(sae, attribute):
            return _judge(name, f"{attribute} must be a non-empty string.")
    for attribute in ("d_in", "d_out", "d_sae"):
        value = getattr(sae, attribute, None)
        if type(value) is not int or value < 1:
            return _judge(name, f"{attribute} must be a positive int, not {value!r}.")
    if not isinstance(getattr(sae, "hook", None), HookSite):
        return _judge(name, "hook must be a HookSite.")
    kinds = getattr(sae, "capabilities", None)
    if not isinstance(kinds, frozenset) or not all(isinstance(kind, Capability) for kind in kinds):
        return _judge(name, "capabilities must be a frozenset of Capability.")
    if not isinstance(sae.control, bool):
        return _judge(name, f"control must be True or False, not {sae.control!r}.")
    for side, sites, width in (("d_in", sae.hook.sites_in, sae.d_in), ("d_out", sae.hook.sites_out, sae.d_out)):
        if width % len(sites):
            return _judge(name, f"{side}={width} does not divide equally among {len(sites)} hook points.")
    crosses = sae.hook.crosses
    if crosses != (Capability.TRANSCODER in kinds):
        return _judge(
            name, f"the hook is {sae.hook}, so the capability transcoder must {'' if crosses else 'not '}be declared."
        )
    if not crosses and sae.d_in != sae.d_out:
        return _judge(name, f"d_in={sae.d_in} and d_out={sae.d_out} differ, but it reads and writes at one hook point.")
    return _judge(name, None)


def check_shapes_and_dtypes(subject: Subject) -> CheckResult:
    """Latents and reconstructions have the declared widths and are float32, whatever the float type of the input."""
    sae = subject.sae
    inputs = [subject.x, subject.sequences, subject.sequences.bfloat16()]
    for x in inputs:
        z = sae.encode(x)
        xhat = sae.decode(z, x)
        for what, tensor, width in (("encode", z, sae.d_sae), ("decode", xhat, sae.d_out)):
            expected = (*x.shape[:-1], width)
            if tuple(tensor.shape) != expected:
                return _judge("shapes_and_dtypes", f"{what} gave shape {tuple(tensor.shape)} instead of {expected}.")
            if tensor.dtype != torch.float32:
                return _judge("shapes_and_dtypes", f"{what} of {x.dtype} gave {tensor.dtype} instead of torch.float32.")
    return _judge("shapes_and_dtypes", None)


def check_device(subject: Subject) -> CheckResult:
    """``to`` returns the SAE, and results are on the device of the inputs (tested on CUDA where there is a GPU)."""
    for device in (_accelerator(), "cpu"):  # the CPU comes last, because the factory may always give the same object
        sae = subject.factory()
        if sae.to(device) is not sae:
            return _judge("device", "to() must return the SAE itself.")
        x = subject.x.to(device)
        z = sae.encode(x)
        for what, tensor in (("encode", z), ("decode", sae.decode(z, x))):
            if tensor.device.type != device:
                return _judge("device", f"{what} on {device} gave a tensor on {tensor.device}.")
    return _judge("device", None)


def check_deterministic(subject: Subject) -> CheckResult:
    """Equal inputs give equal bits."""
    sae, x, z = subject.sae, subject.x, subject.z
    if not torch.equal(sae.encode(x), z):
        return _judge("deterministic", "encode gave two results for one input.")
    same = torch.equal(sae.decode(z, x), sae.decode(z, x))
    return _judge("deterministic", None if same else "decode gave two results for one input.")


def check_stateless(subject: Subject) -> CheckResult:
    """``decode(z, x)`` does not depend on what was encoded before it."""
    sae, x, z = subject.sae, subject.x, subject.z
    sae.encode(x)
    before = sae.decode(z, x)
    sae.encode(3 * x.flip(0) + 1)
    problem = None if torch.equal(before, sae.decode(z, x)) else "decode(z, x) changed after encoding other inputs."
    return _judge("stateless", problem)


def check_finite(subject: Subject) -> CheckResult:
    """Finite activations give finite latents and reconstructions."""
    for what, tensor in (("encode", subject.z), ("decode", subject.sae.decode(subject.z, subject.x))):
        if not bool(torch.isfinite(tensor).all()):
            return _judge("finite", f"{what} of finite activations gave NaN or Inf.")
    return _judge("finite", None)


def check_batch_invariance(subject: Subject) -> CheckResult:
    """A position-wise SAE gives a token the same latents alone, in a batch, and in a sequence."""
    if not subject.has(Capability.POSITION_WISE):
        return _skip("batch_invariance", "position_wise is not declared.")
    sae, x, z = subject.sae, subject.x, subject.z
    alone = torch.cat([sae.encode(x[i : i + 1]) for i in range(len(x))])
    for what, other in (("alone", alone), ("in a sequence", sae.encode(subject.sequences).flatten(0, 1))):
        if (share := _changed_share(z, other)) > FLIPS:
            return _judge("batch_invariance", f"{share:.1%} of active latents change when a token is encoded {what}.")
    return _judge("batch_invariance", None)


def check_linear_decoder(subject: Subject) -> CheckResult:
    """``decode(z, x) - decode(0, x)`` equals ``z @ decoder_directions()``."""
    sae, x = subject.sae, subject.x
    if not subject.has(Capability.LINEAR_DECODER):
        return _skip("linear_decoder", "not declared.")
    directions = sae.decoder_directions()
    if tuple(directions.shape) != (sae.d_sae, sae.d_out):
        return _judge("linear_decoder", f"decoder_directions() has shape {tuple(directions.shape)}.")
    noise = torch.randn(subject.z.shape, generator=torch.Generator().manual_seed(1))
    for z in (subject.z, noise * subject.z.abs().amax(-1, keepdim=True).clamp(min=1)):
        out, constant = sae.decode(z, x), sae.decode(torch.zeros_like(z), x)
        gap = _gap(out - constant, z @ directions, torch.cat([out, constant], -1))
        if gap > TOLERANCE:
            return _judge("linear_decoder", f"decode(z) - decode(0) and z @ decoder_directions() differ by {gap:.2g}.")
    return _judge("linear_decoder", None)


def check_encoder_directions(subject: Subject) -> CheckResult:
    """Between two inputs at which latent i is active, ``z_i`` changes by exactly ``(x' - x) . e_i``."""
    sae, x, z = subject.sae, subject.x, subject.z
    if not subject.has(Capability.ENCODER_DIRECTIONS):
        return _skip("encoder_directions", "not declared.")
    directions = sae.encoder_directions()
    if tuple(directions.shape) != (sae.d_sae, sae.d_in):
        return _judge("encoder_directions", f"encoder_directions() has shape {tuple(directions.shape)}.")
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(2))
    moved = x + 0.2 * x.std(-1, keepdim=True) * noise
    z_moved = sae.encode(moved)
    both = (z != 0) & (z_moved != 0)
    if not bool(both.any()):
        return _skip("encoder_directions", "no latent is active on the test inputs; pass real activations.")
    expected = (moved - x) @ directions.T
    gap = _gap((z_moved - z) * both, expected * both, torch.cat([z, z_moved, expected], -1))
    wrong = f"active latents do not follow encoder_directions(): relative difference {gap:.2g}."
    return _judge("encoder_directions", wrong if gap > 10 * TOLERANCE else None)


def check_non_negative(subject: Subject) -> CheckResult:
    """No latent is below zero."""
    if not subject.has(Capability.NON_NEGATIVE):
        return _skip("non_negative", "not declared.")
    lowest = float(subject.z.min())
    return _judge("non_negative", f"a latent is {lowest:.3g}." if lowest < 0 else None)


def check_sparse_encode(subject: Subject) -> CheckResult:
    """``encode_sparse``, scattered into zeros, equals ``encode``; no index occurs twice in a token."""
    if not subject.has(Capability.SPARSE_ENCODE):
        return _skip("sparse_encode", "not declared.")
    tokens = subject.sequences.flatten(0, 1)
    values, indices = subject.sae.encode_sparse(tokens)
    dense = subject.sae.encode(tokens)
    # scatter_add rather than scatter, so that a repeated index is noticed.
    share = _changed_share(torch.zeros_like(dense).scatter_add(-1, indices, values), dense)
    return _judge("sparse_encode", f"{share:.1%} of active latents differ from encode()." if share > FLIPS else None)


def check_undeclared_refused(subject: Subject) -> CheckResult:
    """Methods of capabilities that are not declared raise NotApplicableError."""
    calls: dict[Capability, Callable[[], object]] = {
        Capability.LINEAR_DECODER: lambda: subject.sae.decoder_directions(),
        Capability.ENCODER_DIRECTIONS: lambda: subject.sae.encoder_directions(),
        Capability.SPARSE_ENCODE: lambda: subject.sae.encode_sparse(subject.sequences.flatten(0, 1)),
    }
    for capability, call in calls.items():
        if subject.has(capability):
            continue
        try:
            call()
        except NotApplicableError:
            continue
        return _judge("undeclared_refused", f"{capability} is not declared, but its method works.")
    return _judge("undeclared_refused", None)


def check_fingerprint(subject: Subject) -> CheckResult:
    """Loading twice gives the same fingerprint, and neither use nor moving changes it."""
    first = subject.sae.fingerprint()
    second = subject.factory()
    second.to(_accelerator())
    second.encode(subject.x.to(_accelerator()))
    after = second.fingerprint()
    second.to("cpu")
    if not isinstance(first, str) or len(first) < 16 or set(first) - set("0123456789abcdef"):
        return _judge("fingerprint", f"{first!r} is not a hex digest.")
    changed = "the fingerprint is another after the SAE is loaded again, moved and used."
    return _judge("fingerprint", None if first == after else changed)


def check_fits_model(subject: Subject) -> CheckResult:
    """The language model has the SAE's hook points, with its widths."""
    if subject.d_at is None:
        return _skip("fits_model", "no language model given.")
    check_fits(subject.sae, subject.d_at)
    return _judge("fits_model", None)


CHECKS: dict[str, Callable[[Subject], CheckResult]] = {
    check.__name__.removeprefix("check_"): check
    for check in (
        check_attributes,
        check_shapes_and_dtypes,
        check_device,
        check_deterministic,
        check_stateless,
        check_finite,
        check_batch_invariance,
        check_linear_decoder,
        check_encoder_directions,
        check_non_negative,
        check_sparse_encode,
        check_undeclared_refused,
        check_fingerprint,
        check_fits_model,
    )
}


def run_check(name: str, subject: Subject) -> CheckResult:
    """Run one check. An exception that the SAE raises fails the check, and its text becomes the detail."""
    try:
        with torch.no_grad():
            return CHECKS[name](subject)
    except Exception as error:  # the code under test may raise anything
        return CheckResult(name, False, f"{type(error).__name__}: {error}")


def run_checks(
    sae_factory: Callable[[], SAE],
    d_at: Callable[[str], int] | None = None,
    *,
    activations: Tensor | None = None,
    names: Sequence[str] = tuple(CHECKS),
) -> list[CheckResult]:
    """Run the suite, or some of its checks.

    Args:
        sae_factory: Loads the SAE anew at each call.
        d_at: Returns the width of the language model at a hook point; None without a language model.
        activations: Inputs ``[tokens, d_in]`` of at least 32 tokens, in place of random ones.
        names: The checks to run.

    Returns:
        One result for each check, in the order of ``names``.

    Raises:
        Whatever ``sae_factory`` raises when it is first called.
    """
    subject = Subject(sae_factory, d_at, activations)
    subject.sae  # noqa: B018  loads the SAE, so that an error of loading is raised and does not fail every check
    return [run_check(name, subject) for name in names]
