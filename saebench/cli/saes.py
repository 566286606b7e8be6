"""``saebench saes``."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from saebench.cli.output import echo, write
from saebench.errors import shown
from saebench.safe_text import visible

if TYPE_CHECKING:
    from saebench.sae.directory import Published
    from saebench.sae.registry import Entry

_ROWS = 20  # of --search as text
_COLUMNS_OF_A_LINE = 80
_NAMES = 32  # columns of a name
_INDENT = "    "
_COLUMNS = ("architecture", "k", "d_sae", "l0", "fvu", "dead_share")
_HEADERS = {"dead_share": "dead"}  # where the name is wider than the numbers


@click.command(short_help="List the SAEs that ship with saebench, the controls, and how to name others.")
@click.option(
    "--sae-lens",
    "filter_",
    metavar="[FILTER]",
    is_flag=False,
    flag_value="",
    help="List the releases of SAELens (offline) whose names contain FILTER, or the SAEs of the release FILTER.",
)
@click.option(
    "--search",
    "searched",
    metavar="TEXT",
    help="List the SAEs of the zoo and of SAELens (offline) that fit every word of TEXT.",
)
@click.option(
    "--format",
    "format_",
    type=click.Choice(["text", "csv", "json"]),
    default="text",
    show_default=True,
    help="The format of --search; csv and json hold every SAE that fits.",
)
def saes(filter_: str | None, searched: str | None, format_: str) -> None:
    """List the SAEs that ship with saebench, the controls, how to name others, and groups of SAEs.

    \b
    Examples:
      saebench saes
      saebench saes --search "gemma-2-2b res 16k layer_12"
      saebench saes --sae-lens gemma-scope
      saebench saes --sae-lens gemma-scope-2b-pt-res-canonical

    Options of a reference follow a question mark: "baseline:random?d_sae=2048&l0=32". Exit code: 0.
    """
    from saebench.errors import UsageError

    if searched is not None:
        if filter_ is not None:
            raise UsageError("--search looks through the releases of SAELens, too; leave out --sae-lens.")
        _search(searched, format_)
        return
    if format_ != "text":
        raise UsageError("--format is for --search; name what to look for.")
    echo(_everything() if filter_ is None else _releases(filter_))


def _search(text: str, format_: str) -> None:
    """Print the SAEs that fit a text."""
    from saebench.errors import UsageError
    from saebench.sae.search import search

    found = search(text)
    if format_ == "json":
        write(f"{json.dumps([sae.row() for sae in found], indent=1)}\n".encode())
        return
    if format_ == "csv":
        write(_csv(found))
        return
    if not found:
        raise UsageError(
            f"No SAE of the zoo or of SAELens' directory fits {shown(text)}; every word must fit, so try fewer words, "
            "such as the name of a language model."
        )
    for sae in found[:_ROWS]:
        facts = (
            sae.hook or "hook: see its files",
            "" if sae.d_sae is None else f"{sae.d_sae:,} latents",
            "" if sae.l0 is None else f"L0 {sae.l0:.4g}",
            sae.model,
        )
        echo(f"{visible(sae.reference)}\n{_facts([visible(fact) for fact in facts if fact])}")
    if len(found) > _ROWS:
        echo(f"{len(found) - _ROWS:,} more; add words, or --format csv for all of them.")


def _facts(facts: list[str]) -> str:
    """Return facts in indented lines of at most 80 columns."""
    lines = [""]
    for fact in facts:
        joined = f"{lines[-1]}, {fact}" if lines[-1] else fact
        if len(joined) + len(_INDENT) > _COLUMNS_OF_A_LINE and lines[-1]:
            lines.append(fact)
        else:
            lines[-1] = joined
    return "\n".join(_INDENT + line for line in lines)


def _csv(found: list[Published]) -> bytes:
    from saebench.results.csv_text import write as to_csv

    return to_csv(["reference", "model", "hook", "d_sae", "l0"], [list(sae.row().values()) for sae in found]).encode()


def _everything() -> str:
    from saebench.sae.registry import scheme_registry

    entries = scheme_registry().entries()
    return "\n\n".join(
        [
            f"SAEs that ship with saebench, and numbers on news text that none was trained on\n{_zoo()}",
            "\n".join(["Controls, with their options", *_forms(entries, control=True)]),
            "\n".join(["SAEs, with their options", *_forms(entries, control=False), *_broken(entries)]),
            f"Values of options\n{_options(entries)}",
            f"Groups, for tasks that compare SAEs with each other (--sae-group)\n{_groups()}",
        ]
    )


def _zoo() -> str:
    from tabulate import tabulate

    from saebench.sae.zoo import zoo_index

    index = zoo_index()
    if not index:
        return "none in this installation"
    columns = [column for column in _COLUMNS if any(column in card for card in index.values())]
    rows = [[f"zoo:{name}", *(_cell(card.get(column)) for column in columns)] for name, card in index.items()]
    table = tabulate(
        rows,
        headers=["reference", *(_HEADERS.get(column, column) for column in columns)],
        tablefmt="simple",
        disable_numparse=True,
    )
    hooks = dict.fromkeys(str(card["hook"]) for card in index.values() if "hook" in card)
    return f"{table}\nhook: {', '.join(hooks)}" if hooks else table


def _forms(entries: list[Entry], *, control: bool) -> Iterator[str]:
    """An entry for each way to write a reference, with the names of its options."""
    for entry in entries:
        for form in entry.scheme.forms if entry.scheme else ():
            if form.control == control:
                options = f"  ({', '.join(form.options)})" if form.options else ""
                origin = "" if entry.origin == "saebench" else f"  (from {entry.origin})"
                yield _entry(f"{entry.name}:{form.body}", f"{form.description}{options}{origin}")


def _broken(entries: list[Entry]) -> Iterator[str]:
    for entry in entries:
        if entry.scheme is None:
            yield _entry(f"{entry.name}:", f"cannot be used: {entry.error}  (from {entry.origin})")


def _entry(name: str, text: str) -> str:
    """Return a name and what it means, in lines of at most 80 columns."""
    first = f"{name:<{_NAMES}}  "
    lines = textwrap.wrap(text, _COLUMNS_OF_A_LINE - _NAMES - 2, break_long_words=False, break_on_hyphens=False)
    if len(name) > _NAMES:
        first, lines = name, ["", *lines]
    return first + f"\n{' ' * (_NAMES + 2)}".join(lines)


def _options(entries: list[Entry]) -> str:
    """Return a line for each option, which says what its value must be. An option with two meanings has two lines."""
    forms = [form for entry in entries if entry.scheme for form in entry.scheme.forms]
    expects = sorted({(name, option.expects) for form in forms for name, option in form.options.items()})
    return "\n".join(_entry(name, text) for name, text in expects)


def _groups() -> str:
    from tabulate import tabulate

    from saebench.sae.group_ref import predefined_groups

    rows = []
    for group in predefined_groups().values():
        rows += [[group.name if number == 0 else "", str(ref)] for number, ref in enumerate(group.members)]
    rows.append(["NAME=REF,REF", "a group of your own"])
    return tabulate(rows, headers=["group", "SAEs"], tablefmt="simple", disable_numparse=True)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _releases(filter_: str) -> str:
    from saebench.errors import UsageError, did_you_mean
    from saebench.sae.sae_lens_scheme import sae_lens_releases

    releases = sae_lens_releases()
    if filter_ in releases:
        return "\n".join(f"sae_lens:{filter_}/{sae_id}" for sae_id in sorted(releases[filter_]))
    matching = {name: ids for name, ids in sorted(releases.items()) if filter_.lower() in name.lower()}
    if not matching:
        raise UsageError(f"SAELens knows no release with {filter_!r} in its name.{did_you_mean(filter_, releases)}")
    return "\n".join(f"{name}  ({len(ids)} SAEs, such as {min(ids)})" for name, ids in matching.items())
