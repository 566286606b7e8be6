"""Tiny good inputs: a language model, SAEs, a text, and records made of them by the real command line."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from tests.hostile.case import Surroundings
from tests.soak.child import Child, command

SITE = "blocks.1.hook_resid_post"
CONTROL = f"baseline:random?d_sae=64&hook={SITE}&l0=8"
_SECONDS = 300  # a run takes one second; a machine that is busy with other things may need more


@dataclass(frozen=True)
class World:
    """A folder of good inputs.

    It holds ``model``, ``sae0``, ``sae1``, ``broken`` (an SAE with NaN), ``text.jsonl``, ``records`` of the two good
    SAEs and a control, and ``former-board``, a board of fewer records.
    """

    folder: Path

    @property
    def records(self) -> Path:
        return self.folder / "records"

    @property
    def surroundings(self) -> Surroundings:
        """The inputs that stand beside a hostile one."""
        return Surroundings(self.folder / "model", self.folder / "sae0", self.folder / "text.jsonl", self.records)

    def link_into(self, folder: Path) -> None:
        """Make a folder in which the inputs lie under their names, without a copy and without the records."""
        folder.mkdir(parents=True)
        for name in ("model", "sae0", "sae1", "broken", "text.jsonl"):
            (folder / name).symlink_to(self.folder / name)


def run_arguments(*tasks: str, out: str = "results", groups: bool = True, broken: bool = True) -> list[str]:
    """Return the arguments of a run of a second in a folder that ``World.link_into`` made.

    Paths are relative, so that the records hold no path of this machine.
    """
    saes = ["sae_lens:sae0", *(["sae_lens:broken"] if broken else []), "sae_lens:sae1", CONTROL]
    group = ["--sae-group", "pair=sae_lens:sae0,sae_lens:sae1"] if groups else []
    options = ["--preset", "smoke", "--limit", "4", "--device", "cpu", "--dtype", "float32", "--memory-budget", "1GB"]
    named = [part for sae in saes for part in ("--sae", sae)]
    return ["run", "--tasks", ",".join(tasks), "--model", "model", "--text", "jsonl:text.jsonl", *named, *group,
            *options, "--out", out]  # fmt: skip


def make_world(folder: Path) -> World:
    """Return the world in ``folder``, which is made unless it is there."""
    world = World(folder)
    if (folder / "complete").exists():
        return world
    from tests.conftest import build_model, build_tokenizer
    from tests.runner.conftest import save_topk, write_text

    folder.mkdir(parents=True, exist_ok=True)
    for part in (build_model("llama"), build_tokenizer()):
        part.save_pretrained(folder / "model")
    for seed in (0, 1):
        save_topk(folder / f"sae{seed}", seed)
    save_topk(folder / "broken", nan=True)
    write_text(folder / "text.jsonl", n=120)
    arguments = run_arguments("core", "dark_matter", out="records", groups=False, broken=False)
    done = Child(command(*arguments), folder, environment={"SAEBENCH_HOME": str(folder / "home")}).wait(_SECONDS)
    if done.code != 0:
        raise RuntimeError(f"the run that makes good records ended with {done.code}:\n{done.text}")
    _build_former_board(folder)
    (folder / "complete").touch()
    return world


def _build_former_board(folder: Path) -> None:
    """Build a board of the first SAE alone, with a page of an SAE that is no longer measured."""
    fewer = shutil.copytree(folder / "records", folder / "fewer-records")
    for other in fewer.glob("*/*/sae_lens-sae1*"):
        shutil.rmtree(other)
    board = folder / "former-board"
    done = Child(command("leaderboard", "build", "--results", fewer, "--out", board), folder).wait(_SECONDS)
    if done.code != 0:
        raise RuntimeError(f"the board of fewer records ended with {done.code}:\n{done.text}")
    page = next((board / "sae").glob("*.html"))
    shutil.copy(page, page.with_name("former.html"))
