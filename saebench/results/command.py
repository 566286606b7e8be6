"""The command that measures a record again."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

from saebench.cards.registry import registry
from saebench.errors import UsageError
from saebench.results.record import GROUP, Record
from saebench.results.slug import slug
from saebench.safe_text import short

_LONGEST = 1_000


def command(record: Record, *options: str) -> str:
    """Return the command that measures ``record`` again; settings that have no option follow as a comment.

    Args:
        record: The record.
        *options: More words of the command, such as ``--overwrite always``.
    """
    who = record.identity
    is_group = record.sae.name.startswith(GROUP)
    words = ["saebench", "run", "--sae-group" if is_group else "--sae", who.sae, "--tasks", who.task]
    words += ["--model", who.model, "--preset", record.preset, "--seed", str(who.seed), "--dtype", who.dtype]
    # A baseline is fitted at the hook of the run unless its reference names one. All other references bring their hook.
    if "baseline:" in who.sae and "hook=" not in who.sae:
        words += ["--hook", record.sae.hook]
    usual = _usual(record)
    changed = {key: value for key, value in who.parameters.items() if usual.get(key) != value}
    for key, option in (("text", "--text"), ("sequences", "--limit")):
        if key in changed:
            words += [option, str(changed.pop(key))]
    comment = f"  # with --config, parameters: {json.dumps({who.task: changed})}" if changed else ""
    return shlex.join([*words, *options]) + comment


def remedy(record: Record, json_path: Path) -> str:
    """Say how to make ``record``, whose JSON is in ``json_path``, again, for the end of a sentence about its damage."""
    who = record.identity
    folders = (slug(who.model), slug(record.sae.hook), slug(who.sae), slug(who.task))
    # Elsewhere than at its place nobody knows the folder of the run.
    out = ["--out", str(Path(*json_path.parts[:-5]))] if json_path.parts[-5:-1] == folders else []
    return f"`{short(command(record, *out, '--overwrite', 'always'), _LONGEST)}` makes the record again"


def _usual(record: Record) -> dict[str, Any]:
    """Return the settings of the record's task and preset; none for a task or preset that is not installed."""
    try:
        return registry().card(record.identity.task).resolve(record.preset)
    except UsageError:
        return {}
