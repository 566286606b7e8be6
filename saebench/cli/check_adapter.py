"""``saebench check-adapter``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import click

from saebench.cli.output import echo
from saebench.cli.quiet import quiet_libraries

if TYPE_CHECKING:
    from saebench.diagnosis.diagnose import Diagnosis
    from saebench.sae.conformance import CheckResult

SOME_FAILED = 1
_SAMPLE = (32, 8)  # context length, sequences
_HINT = (
    "Only real activations tell whether it is loaded right; add --model and the language model that it was trained on, "
    "such as --model asset:gemma-3-270m."
)


@dataclass
class _Asked:
    """The options of the command line, and the diagnosis that they ask for.

    Attributes:
        diagnose: Makes the diagnosis; None without a language model, or where the SAE could not be loaded.
    """

    ref: str
    model: str | None
    hook: str | None
    text: str | None
    trust_remote_code: bool
    diagnose: Callable[[], Diagnosis] | None = field(default=None)


@click.command("check-adapter", short_help="Check whether an SAE does what an evaluation needs, and is loaded right.")
@click.argument("ref")
@click.option("--model", metavar="REF", help="Check also against this language model, on its activations.  [none]")
@click.option("--hook", metavar="SITE", help="Hook point of an SAE that names none, such as blocks.9.hook_resid_post.")
@click.option("--text", metavar="REF", help="Text that --model reads.  [asset:sae-probes/97_news_class]")
@click.option("--trust-remote-code", is_flag=True, help="Let Python code that comes with the model run. Read it first.")
def check_adapter(ref: str, model: str | None, hook: str | None, text: str | None, trust_remote_code: bool) -> None:
    """Check whether an SAE does what an evaluation needs and, with --model, whether it is loaded right.

    \b
    Examples:
      saebench check-adapter sae_lens:path/to/folder
      saebench check-adapter sae_lens:path/to/folder --model asset:gemma-3-270m

    The checks cover shapes, dtypes, devices, determinism and batch invariance, whether the SAE has the capabilities
    that it declares, whether its fingerprint is stable and, with --model, whether it fits the language model. Without
    --model no language model is loaded and inputs are random; the controls pca, random and neurons need a model.
    `saebench saes` says what REF may be.

    With --model, FVU and L0 on 2,048 tokens of the text stand beside those with common mistakes undone: a scale or a
    bias that is left out, a matrix that is not transposed, a hook one block off, and others. The verdict says which of
    them fits.

    Exit codes: 0 all checks pass and the SAE is loaded right, 1 a check fails or the SAE is not loaded right, 2 a
    reference is wrong.
    """
    from saebench.errors import UsageError

    if text is not None and model is None:
        raise UsageError("--text is read by a language model; name it with --model.")
    if trust_remote_code and model is None:
        raise UsageError("--trust-remote-code is for the code of a language model; name one with --model.")
    asked = _Asked(ref, model, hook, text, trust_remote_code)
    results = list(_results(asked))
    width = max(len(result.name) for result in results)
    for result in results:
        verdict = "skipped" if result.skipped else "ok" if result.ok else "failed"
        echo(f"{result.name:<{width}}  {verdict:<7}  {' '.join(result.detail.split())}".rstrip())
    failed = sum(not result.ok for result in results)
    echo(f"\n{failed} of {len(results)} checks failed" if failed else f"\n{ref} passes all checks")
    right = _tell_verdict(asked) if not failed else False
    click.get_current_context().exit(0 if right else SOME_FAILED)


def _tell_verdict(asked: _Asked) -> bool:
    """Print whether the SAE is loaded right. Returns False if it is not."""
    if asked.diagnose is None:
        echo(_HINT)
        return True
    from saebench.diagnosis.text import sentence, table
    from saebench.diagnosis.verdict import Outcome
    from saebench.errors import NotApplicableError
    from saebench.safe_text import visible

    try:
        diagnosis = asked.diagnose()
    except NotApplicableError as error:
        echo(f"No verdict on whether it is loaded right: {visible(str(error))}")
        return True
    echo(f"\n{table(diagnosis)}\n\n{sentence(diagnosis)}")
    return diagnosis.verdict.outcome is Outcome.RIGHT


def _results(asked: _Asked) -> Iterator[CheckResult]:
    from saebench.cards.registry import registry
    from saebench.data.text_ref import parse_text_ref
    from saebench.errors import HookMismatchError, SAELoadError
    from saebench.lm.reference import parse_lm_ref
    from saebench.lm.site import parse_site
    from saebench.runner.fit import check_named_hooks, misfits
    from saebench.runner.shape import shape_of
    from saebench.sae.reference import parse_sae_ref

    ref, hook = asked.ref, asked.hook
    defaults = registry().card("core").parameters
    text = asked.text or str(defaults["text"].default)
    parsed = parse_sae_ref(ref)
    parse_text_ref(text)
    if hook is not None:
        parse_site(hook)
    lm_ref = parse_lm_ref(asked.model) if asked.model else None
    if lm_ref is not None:
        shape = shape_of(lm_ref)
        check_named_hooks(hook, [], lm_ref, shape)
        if reason := misfits([parsed], lm_ref, shape, hook).get(parsed):
            from saebench.sae.conformance import CheckResult

            yield CheckResult("load", False, reason)
            return

    quiet_libraries()
    import torch

    from saebench.diagnosis.diagnose import diagnose
    from saebench.lm.facts import Facts
    from saebench.lm.load import load_lm
    from saebench.passes.context import TaskContext
    from saebench.sae.base import LoadContext
    from saebench.sae.conformance import CheckResult, run_checks
    from saebench.sae.hook import HookSite
    from saebench.sae.reference import load_sae
    from saebench.sae.trained_on import differences, trained_on

    site = HookSite.at(hook) if hook else None
    loading = LoadContext(hook=site, hook_named=site is not None)
    d_at = None
    if lm_ref is not None:
        device, dtype = torch.device("cpu"), torch.float32
        lm = load_lm(lm_ref, device=device, dtype=dtype, trust_remote_code=asked.trust_remote_code)
        d_at = lm.d_at
        context = TaskContext(lm)
        facts = Facts(lm)
        loading = replace(loading, calibration=lambda at: context.calibration(text, at), d_in=d_at, model=facts)
    try:
        sae = load_sae(parsed, loading)
    except (SAELoadError, HookMismatchError) as error:
        yield CheckResult("load", False, str(error))
        return
    yield CheckResult("load", True)
    activations = None
    if lm_ref is not None:
        length = int(str(defaults["context_length"].default))
        for difference in differences(trained_on(sae), ref, sae.hook.sites, facts, length):
            echo(f"Warning: {difference}", err=True)
        batch = context.batch(text, *_SAMPLE)
        read = lm.prefix(batch.tokens, sae.hook.sites_in)
        activations = torch.cat([read[at] for at in sae.hook.sites_in], -1)[batch.evaluated]
        asked.diagnose = lambda: diagnose(parsed, sae, context, text)
    yield from run_checks(lambda: load_sae(parsed, loading), d_at, activations=activations)
