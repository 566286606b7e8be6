"""``saebench lm-eval``."""

from __future__ import annotations

import sys

import click

from saebench.cli.output import echo, echo_traceback

FAILED = 1


@click.command(
    "lm-eval",
    short_help="Run lm-eval's tasks on a language model with an SAE or an intervention.",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[LM-EVAL ARGUMENTS]...")
@click.pass_context
def lm_eval(context: click.Context, arguments: tuple[str, ...]) -> None:
    """Run EleutherAI's lm-eval with the model `saebench`: a language model with an SAE spliced in, clamped or steered.

    \b
    Examples:
      saebench lm-eval --model saebench --model_args pretrained=asset:gemma-3-270m,sae=zoo:topk-k32-s0 \\
          --tasks saebench_sciq --limit 200 --batch_size 8
      saebench lm-eval --model saebench --model_args pretrained=asset:gemma-3-270m --tasks saebench
      saebench lm-eval ls tasks                     all tasks, including those of saebench
      saebench lm-eval run --help                   the options of lm-eval, which are passed on as they are

    \b
    --model_args, separated by commas:
      pretrained=REF      language model: asset:NAME, hf:ORG/NAME[@REVISION] or a folder
      sae=REF             an SAE; see `saebench saes`
      intervention=SPEC   none, splice (the reconstruction replaces the activation), or one of those in
                          docs/lm-eval.md; by default splice if there is an SAE
      device=, dtype=, batch_size=, and the other arguments of lm-eval's model `hf`

    A value with commas needs quotes inside those of the shell: 'pretrained=REF,sae="python:my.py:f?a=1,2"'.
    Without sae and intervention the scores equal those of lm-eval's `hf` to the last digit.

    These tasks need the asset sae-probes, but no network: saebench_sciq, saebench_openbookqa, saebench_truthfulqa,
    saebench_commonsense and saebench_sst2. The name `saebench` means all of them.

    Exit codes: 0 success, 1 lm-eval failed, 2 the request is not possible.
    """
    if not arguments:
        echo(context.get_help())
        return
    from saebench.cli.quiet import quiet_libraries
    from saebench.errors import SaebenchError, UsageError, did_you_mean
    from saebench.harness import our_tasks, register

    register()
    from lm_eval.__main__ import cli_evaluate

    quiet_libraries()
    before, known = sys.argv, list[str]()
    sys.argv = ["saebench lm-eval", *arguments]
    try:
        with our_tasks(known):
            cli_evaluate()
    except SaebenchError:
        raise
    except Exception as error:
        missing = str(error).removeprefix("Tasks not found: ")
        if isinstance(error, ValueError) and missing != str(error):
            hint = did_you_mean(missing.split(", ")[0], known)
            raise UsageError(
                f"lm-eval has no task {missing!r}.{hint} `saebench lm-eval ls tasks` lists all tasks."
            ) from error
        echo_traceback()
        echo("\nlm-eval failed; the lines above show where.", err=True)
        context.exit(FAILED)
    finally:
        sys.argv = before
