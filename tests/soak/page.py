"""The table of figures, and the page of the documentation that shows it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tests.soak.tally import Tally

BEGIN, END = "<!-- soak -->", "<!-- /soak -->"
_COLUMNS = ("number", "lost", "torn", "changed", "left over", "executed", "undocumented", "minutes")


def table(rows: Mapping[str, Tally]) -> str:
    """Return the figures as a Markdown table, with a sum for each group of rows, such as all kills."""
    lines: list[tuple[str, Tally]] = []
    groups: dict[str, Tally] = {}
    for name, tally in rows.items():
        groups.setdefault(name.split(":")[0], Tally()).add(tally)
    for group, total in groups.items():
        lines.append((f"**{group}**", total))
        lines += [(name.partition(": ")[2], tally) for name, tally in rows.items() if name.split(":")[0] == group]
    cells = [["what", *_COLUMNS], *([name, *_figures(tally)] for name, tally in lines)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    aligned = [" | ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in cells]
    rule = "|" + "|".join([f":{'-' * (widths[0] + 1)}", *(f"{'-' * (width + 1)}:" for width in widths[1:])]) + "|"
    return "\n".join([f"| {aligned[0]} |", rule, *(f"| {line} |" for line in aligned[1:])])


def _figures(tally: Tally) -> list[str]:
    faults = (tally.lost, tally.torn, tally.changed, tally.leftovers, tally.executed, tally.undocumented)
    return [f"{tally.number:,}", *(f"{count:,}" for count in faults), f"{tally.seconds / 60:.1f}"]


def machine(workers: int, seed: int, folder: Path) -> str:
    """Return a sentence about when, with what and on what the figures were made."""
    import psutil

    from saebench.results.provenance import collect

    facts = collect(device="cpu", wall_seconds=0.0)
    commit = f"commit {(facts.git_commit or 'unknown')[:12]}{' with changes' if facts.git_dirty else ''}"
    packages = ", ".join(f"{name} {version}" for name, version in facts.packages.items())
    memory = psutil.virtual_memory().total / 2**30
    return (
        f"Made on {facts.created:%d %B %Y} with saebench {facts.saebench_version} ({commit}), seed {seed}, on "
        f"{facts.device}, {facts.cpu_count} cores, {memory:.0f} GiB of memory, {_file_system(folder)}, "
        f"{facts.platform}, Python {facts.python}, {packages}; {workers} trials at a time."
    )


def _file_system(folder: Path) -> str:
    import psutil

    mounts = {Path(part.mountpoint): part.fstype for part in psutil.disk_partitions(all=True)}
    for parent in (folder.resolve(), *folder.resolve().parents):
        if mounts.get(parent):
            return f"file system {mounts[parent]}"
    return "unknown file system"


def write(page: Path, text: str) -> None:
    """Put ``text`` between the markers of a page. Raises ValueError if the page has no markers."""
    content = page.read_text("utf-8")
    before, begin, rest = content.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page} has no markers {BEGIN} and {END}")
    page.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", "utf-8")
