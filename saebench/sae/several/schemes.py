"""The schemes of crosscoders and cross-layer transcoders: one for each format of files.

This module is imported to parse references; the weights are read by a module that each format names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

from saebench.errors import SaebenchError
from saebench.sae.hook import HookSite
from saebench.sae.map_scheme import existing
from saebench.sae.options import Option, read_options
from saebench.sae.scheme import Form, Scheme
from saebench.sae.several import declared
from saebench.sae.several.formats import Files, Find, Hook, read_sites

if TYPE_CHECKING:
    from saebench.sae.base import LoadContext
    from saebench.sae.protocol import SAE
    from saebench.sae.ref import Reference

_SITES = Option("one or several hook points, such as blocks.0-11.hook_resid_post", read_sites)
_HOOKS = {"hook": _SITES, "hook_out": _SITES}


class SeveralScheme(Scheme):
    """``NAME:PATH`` for the SAEs of one format."""

    reads_files = True

    def __init__(
        self,
        name: str,
        title: str,
        find: Find,
        hook: Hook,
        module: str,
        options: Mapping[str, Option] | None = None,
    ) -> None:
        """Describe a format.

        Args:
            name: The scheme.
            title: What it is, in one line.
            find: Finds the files that a reference names.
            hook: Tells the hook from the config file, the names of files and the options.
            module: The module of this package whose function ``load(files, hook)`` reads the weights.
            options: Options beside ``hook`` and ``hook_out``.
        """
        self.name, self._find, self._hook, self._module = name, find, hook, module
        self._known = {**_HOOKS, **(options or {})}
        self.forms = (Form("PATH", title, self._known),)

    def validate(self, ref: Reference) -> None:
        self._options(ref)
        existing(ref)

    def load(self, ref: Reference, context: LoadContext) -> SAE:
        files = self._files(ref)
        load: Callable[[Files, HookSite], SAE] = import_module(f"saebench.sae.several.{self._module}").load
        return load(files, self._hook(files))

    def site(self, ref: Reference, default: str | None) -> HookSite | None:
        try:
            return self._hook(self._files(ref))
        except SaebenchError:  # loading reports it
            return None

    def _files(self, ref: Reference) -> Files:
        return self._find(existing(ref), str(ref), self._options(ref))

    def _options(self, ref: Reference) -> dict[str, Any]:
        return read_options(ref, self._known)


def several_schemes() -> tuple[Scheme, ...]:
    """Return the schemes of all formats of SAEs with several hook points."""
    return (
        SeveralScheme(
            "nanda_crosscoder",
            "a crosscoder of two models or layers, as Neel Nanda's and Connor Kissane's code saves it",
            declared.find_nanda,
            declared.hook_of_nanda,
            "nanda",
            {
                "norm_scaling_factor": Option(
                    "one number above 0, or one for each hook point joined by +", declared.factors
                )
            },
        ),
        SeveralScheme(
            "finetuning_crosscoder",
            "a CrossCoder or BatchTopKCrossCoder of science-of-finetuning's dictionary_learning",
            declared.find_finetuning,
            declared.hook_of_finetuning,
            "finetuning",
        ),
        SeveralScheme(
            "llamascopium_crosscoder",
            "a crosscoder of lm-saes or llamascopium (config.json with sae_type crosscoder)",
            declared.find_llamascopium,
            partial(declared.hook_of_llamascopium, kind="crosscoder"),
            "llamascopium",
        ),
        SeveralScheme(
            "llamascopium_clt",
            "a cross-layer transcoder of lm-saes or llamascopium (config.json with sae_type clt)",
            declared.find_llamascopium,
            partial(declared.hook_of_llamascopium, kind="clt"),
            "llamascopium",
        ),
        SeveralScheme(
            "circuit_tracer_clt",
            "a folder of a cross-layer transcoder for circuit-tracer (W_enc_N, W_dec_N and config.yaml)",
            declared.find_circuit_tracer,
            declared.hook_of_circuit_tracer,
            "circuit_tracer",
        ),
        SeveralScheme(
            "gemma_scope_2_clt",
            "a folder of a cross-layer transcoder of Gemma Scope 2, with one file for each layer",
            declared.find_gemma_scope,
            declared.hook_of_gemma_scope,
            "gemma_scope",
        ),
        SeveralScheme(
            "crosslayer_coding",
            "a cross-layer transcoder of crosslayer-coding (cfg.json and clt_checkpoint_latest.safetensors)",
            declared.find_crosslayer,
            declared.hook_of_crosslayer,
            "crosslayer",
        ),
    )
