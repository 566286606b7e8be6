"""What a hostile input is, and what the program may do with it.

A case writes its input into an empty folder and says with which arguments the command line reads it. Whatever the
input is, the command must end with a documented exit code, without a traceback, without running anything that the
input brought along, and within the time that the case allows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

DOCUMENTED = frozenset({0, 1, 2})  # exit codes: success; something failed, the rest is done; the request is impossible
EXECUTED = "EXECUTED"  # code that an input brings along creates a file of this name in the folder of the case


@dataclass(frozen=True)
class Case:
    """One hostile input.

    Attributes:
        name: Its name, unique in its family.
        family: "records", "saes", "formats", "models", "texts", "assets", "references", "settings" or "arguments".
        write: Writes the input into an empty folder and returns the arguments after ``saebench`` that read it. What a
            command needs beside the hostile input (a tiny model, a good SAE, a text) is in ``Surroundings``.
        says: Texts of which the output must hold at least one, such as the name of the field that is wrong; none
            where any sentence will do.
        codes: The exit codes that are right for it.
        seconds: How long the command may take.
    """

    name: str
    family: str
    write: Callable[[Path, Surroundings], Sequence[str]]
    says: tuple[str, ...] = ()
    codes: frozenset[int] = DOCUMENTED
    seconds: float = 60.0


@dataclass(frozen=True)
class Surroundings:
    """Good inputs that stand beside the hostile one. Cases read them and never write into them.

    Attributes:
        model: A folder with a tiny language model of width 32 and its tokenizer; hook points such as
            ``blocks.1.hook_resid_post``.
        sae: A folder of SAELens with a good SAE for that model at ``blocks.1.hook_resid_post``.
        text: A JSON Lines file whose text fits that model.
        records: A folder with good records of two SAEs and a control, made with that model.
    """

    model: Path
    sae: Path
    text: Path
    records: Path
