"""A language model and its hook points: the prefix pass up to a hook point, and the suffix pass from there on.

The Hugging Face model does the work. TransformerLens' bridge, which is wrapped around it in place, names its hook
points. A prefix pass stops as soon as the last wanted site has been read. A suffix pass skips the blocks before the
site: during the pass they are replaced by stand-ins that hand over the cached residual stream, so position embeddings,
masks and layer types are those of the full pass. When the model is wrapped, it is verified that this reproduces the
full pass. If it does not, the full pass is run instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from saebench.errors import HookMismatchError, ModelError, did_you_mean
from saebench.lm.bridge import bridged
from saebench.lm.hand_over import HandOver
from saebench.lm.head import Head, head_of
from saebench.lm.site import Site, parse_site, start_of


class StopPass(Exception):
    """Ends a pass as soon as all wanted activations have been read."""


class LanguageModel:
    """A causal language model, ready for splicing, as `saebench.lm.load.load_lm` loads it.

    All tensors that its methods take and return are on ``device``. Activations have the model's ``dtype``.

    Attributes:
        commit: The commit of the hub that it was loaded from; None for other models.
    """

    commit: str | None = None

    def __init__(self, model: Any, tokenizer: Any, *, name: str, fingerprint: str) -> None:
        """Wrap a loaded Hugging Face model.

        Args:
            model: A causal language model in eval mode.
            tokenizer: Its tokenizer.
            name: The reference of the model, for messages.
            fingerprint: A hash of its configuration and weights.

        Raises:
            ModelError: The model cannot be wrapped.
        """
        self.name = name
        self.fingerprint = fingerprint
        self.tokenizer = tokenizer
        self.config = model.config
        self.model = model
        self.device: torch.device = next(model.parameters()).device
        self.dtype: torch.dtype = next(model.parameters()).dtype
        probe = self._probe_tokens()
        hidden, logits = self._probe(probe)
        self.d_model: int = hidden.shape[-1]
        self.head: Head = head_of(model, hidden.flatten(0, 1), logits.flatten(0, 1))
        self.n_embeddings = int(model.get_input_embeddings().weight.shape[0])
        model.get_input_embeddings().register_forward_pre_hook(lambda _, tokens: self.check_tokens(tokens[0]))
        self.bridge = bridged(model, name)
        model.requires_grad_(False)  # the bridge turns it on again
        self._blocks = _block_list(model)
        self.n_layers = len(self._blocks)
        self._widths: dict[str, int] = {}
        self._blocks_return_tuple = self._verify_wrapping(probe, hidden)
        self.suffix_supported = self._verify_suffix(probe)
        self._resid_mid_exists = self._verify_resid_mid(probe)

    # ------------------------------------------------------------------ sites

    def site(self, name: str) -> Site:
        """Return the site called ``name``. Raises HookMismatchError if this model has no such hook."""
        site = parse_site(name)
        if site.layer >= self.n_layers:
            raise HookMismatchError(
                f"There is no hook {name!r}: {self.name} has {self.n_layers} blocks, 0 to {self.n_layers - 1}."
            )
        if self.bridge.get_hook_point(name) is None:
            known = [hook for hook in self.bridge.hook_dict if hook.startswith(f"blocks.{site.layer}.")]
            raise HookMismatchError(f"{self.name} has no hook {name!r}.{did_you_mean(name, known)}")
        if site.kind == "hook_resid_mid" and not self._resid_mid_exists:
            raise HookMismatchError(
                f"{name!r} cannot be used: the residual stream between attention and MLP cannot be replaced in "
                f"{self.name}; use hook_resid_pre or hook_resid_post."
            )
        return site

    def d_at(self, name: str) -> int:
        """Return the width of the activation at a hook. Raises HookMismatchError if there is no such hook."""
        if name not in self._widths:
            self.site(name)
            self._widths[name] = self.prefix(self._probe_tokens(), [name])[name].shape[-1]
        return self._widths[name]

    def check_tokens(self, tokens: Tensor) -> None:
        """Raise ModelError if the model has no embedding for one of the tokens.

        Every pass makes this check, because a GPU could not be used any more after such a token.
        """
        if not tokens.numel():
            return
        least, most = (int(token) for token in tokens.aminmax())
        if least < 0 or most >= self.n_embeddings:
            token = least if least < 0 else most
            raise ModelError(
                f"The tokenizer of {self.name} gives the token {token} for this text, but the model has an embedding "
                f"only for the tokens 0 to {self.n_embeddings - 1}, so they do not belong together; use the tokenizer "
                "that the model was trained with."
            )

    # ------------------------------------------------------------------ passes

    @torch.no_grad()
    def prefix(
        self, tokens: Int[Tensor, "batch position"], sites: Sequence[str]
    ) -> dict[str, Float[Tensor, "batch position d"]]:
        """Return the activations at ``sites``, from a pass that ends at the last of them.

        Raises:
            HookMismatchError: There is no such hook, the model never reaches it, or its activation is not one vector
                for each position.
        """
        activations: dict[str, Tensor] = {}

        def read(name: str) -> Callable[[Tensor], None]:
            def hook(value: Tensor) -> None:
                activations[name] = value
                if len(activations) == len(set(sites)):
                    raise StopPass

            return hook

        with self.hooks({name: read(name) for name in sites}), suppress(StopPass):
            self._base(tokens)
        self._check_read(activations, sites, tokens)
        return activations

    @torch.no_grad()
    def capture(
        self, tokens: Int[Tensor, "batch position"], sites: Sequence[str]
    ) -> tuple[Float[Tensor, "batch position d_model"], dict[str, Float[Tensor, "batch position d"]]]:
        """Return the final hidden states, after the last norm, and the activations at ``sites``, from one full pass.

        Raises:
            HookMismatchError: As in `prefix`.
        """
        activations: dict[str, Tensor] = {}
        with self.hooks({name: partial(activations.__setitem__, name) for name in sites}):
            hidden = self._base(tokens)
        self._check_read(activations, sites, tokens)
        return hidden, activations

    def suffix(
        self,
        tokens: Int[Tensor, "batch position"],
        site: str,
        activation: Float[Tensor, "batch position d"],
        restart: Float[Tensor, "batch position d_model"] | None = None,
    ) -> Float[Tensor, "batch position d_model"]:
        """Return the final hidden states, after the last norm, if the activation at ``site`` is replaced.

        Args:
            tokens: The tokens.
            site: The name of the site.
            activation: What replaces the activation there.
            restart: The residual stream that enters the block of the site, as `restart_site` names it. A boundary site
                needs none. Without it, another site costs a full pass.
        """
        return self.suffix_of_several(tokens, {site: activation}, restart)

    @torch.no_grad()
    def suffix_of_several(
        self,
        tokens: Int[Tensor, "batch position"],
        activations: Mapping[str, Float[Tensor, "batch position d"]],
        restart: Float[Tensor, "batch position d_model"] | None = None,
    ) -> Float[Tensor, "batch position d_model"]:
        """Return the final hidden states, after the last norm, if the activations at several sites are replaced.

        One pass replaces all of them: each site gets the activation that is given for it, whatever the replacements
        before it would have made of the activation there. So a replaced residual stream between blocks hides every
        replacement before it.

        Args:
            tokens: The tokens.
            activations: What replaces the activation at each site, by the site's name.
            restart: The unchanged residual stream that enters the first block with a site, as `restart_site` names it.
                Without it the pass is a full one, unless a site lies between blocks.

        Raises:
            HookMismatchError: There is no such hook.
        """
        start = self.site(self.restart_site(*activations))
        sites = {name: self.site(name) for name in activations}
        replaced: dict[str, Callable[[Tensor], Tensor | None]] = {
            name: replacing(site, activations[name].to(self.dtype))
            for name, site in sites.items()
            if site.order >= start.order
        }
        residual = activations.get(start.name, restart)
        if not self.suffix_supported or start.restart == 0 or residual is None:
            with self.hooks(replaced):
                return self._base(tokens)
        replaced.pop(start.name, None)
        with self.skipping(start.restart, residual.to(self.dtype)), self.hooks(replaced):
            return self._base(tokens)

    def between(
        self,
        tokens: Int[Tensor, "batch position"],
        start: str,
        residual: Float[Tensor, "batch position d_model"],
        stop: str,
    ) -> Float[Tensor, "batch position d_model"]:
        """Return the activation at ``stop`` if the residual stream at ``start`` is replaced.

        Only the blocks between the two sites run. Unlike the other passes, this one does not turn off gradients.

        Args:
            tokens: The tokens.
            start: The name of a site of the kind hook_resid_pre or hook_resid_post.
            residual: What replaces the residual stream there.
            stop: The name of a later site.

        Raises:
            HookMismatchError: ``stop`` does not come after ``start``, or there is no such hook.
        """
        where, activations = self.site(start), {}
        if self.suffix_supported and where.restart > 0:
            begin = self.skipping(where.restart, residual)
        else:
            begin = self.hooks({start: replacing(where, residual)})

        def read(value: Tensor) -> None:
            activations[stop] = value
            raise StopPass

        with begin, self.hooks({stop: read}), suppress(StopPass):
            self._base(tokens)
        self._check_read(activations, [stop], tokens)
        return activations[stop]

    def restart_site(self, *sites: str) -> str:
        """Return the name of the site whose activation a suffix pass begins with when ``sites`` are replaced."""
        for site in sites:
            self.site(site)
        return start_of(sites).name

    @torch.no_grad()
    def full(self, tokens: Int[Tensor, "batch position"]) -> Float[Tensor, "batch position d_model"]:
        """Return the final hidden states, after the last norm, of the unmodified model."""
        return self._base(tokens)

    # ------------------------------------------------------------------ inside

    def _base(self, tokens: Tensor) -> Tensor:
        return self.model.base_model(input_ids=tokens, use_cache=False).last_hidden_state

    def _check_read(self, activations: dict[str, Tensor], sites: Sequence[str], tokens: Tensor) -> None:
        """Raise HookMismatchError unless every site was read and has one vector for each position."""
        for name in sites:
            shape = tuple(activations[name].shape) if name in activations else None
            if shape is None or len(shape) != 3 or shape[:2] != tokens.shape:
                problem = "its forward pass never reaches it" if shape is None else f"its activation has shape {shape}"
                raise HookMismatchError(f"{self.name} cannot be spliced at {name!r}: {problem}.")

    @contextmanager
    def hooks(self, functions: dict[str, Callable[[Tensor], Tensor | None]]) -> Iterator[None]:
        """Call a function with the activation at each named site, in every pass in this context.

        If a function returns a tensor, it replaces the activation.
        """
        handles = []
        try:
            for name, function in functions.items():
                self.site(name)
                point = self.bridge.get_hook_point(name)
                handles.append(point.register_forward_hook(lambda _m, _i, out, f=function: f(out)))
            yield
        finally:
            for handle in handles:
                handle.remove()

    @contextmanager
    def skipping(self, upto: int, residual: Tensor) -> Iterator[None]:
        """Let passes in this context begin at block ``upto`` (1 or more), which ``residual`` enters."""
        originals = list(self._blocks[:upto])
        try:
            for index, block in enumerate(originals):
                stand_in = HandOver(block, residual if index == 0 else None, self._blocks_return_tuple)
                self._blocks[index] = stand_in
            yield
        finally:
            for index, block in enumerate(originals):
                self._blocks[index] = block

    def _probe_tokens(self) -> Tensor:
        """Return a few arbitrary tokens, enough to see whether two ways of computing agree."""
        vocab = int(getattr(self.config, "vocab_size", 0)) or self.model.get_input_embeddings().num_embeddings
        generator = torch.Generator().manual_seed(0)
        return torch.randint(0, vocab, (2, 12), generator=generator).to(self.device)

    @torch.no_grad()
    def _probe(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        return self._base(tokens), self.model(input_ids=tokens, use_cache=False).logits

    @torch.no_grad()
    def _verify_wrapping(self, tokens: Tensor, unwrapped: Tensor) -> bool:
        """Return whether blocks return tuples. Raises ModelError if the wrapped model computes something else."""
        returned: list[Any] = []
        handle = self._blocks[0].register_forward_hook(lambda _module, _inputs, out: returned.append(out))
        try:
            hidden = self._base(tokens)
        finally:
            handle.remove()
        # The bridge sets eager attention, so bfloat16 rounds differently. A wrong layer would be off by far more.
        tolerance = 1e-4 if self.dtype in (torch.float32, torch.float64) else 1e-1
        if not (hidden - unwrapped).float().norm() <= tolerance * unwrapped.float().norm():
            raise ModelError(
                f"With TransformerLens' hooks, {type(self.model).__name__} ({self.name}) gives other numbers than "
                "without them, so saebench cannot score this architecture."
            )
        return isinstance(returned[0], tuple)

    def _verify_suffix(self, tokens: Tensor) -> bool:
        """Return whether a prefix and a suffix pass reproduce the full pass. This is tried at the middle block."""
        self.suffix_supported = True
        site = f"blocks.{(self.n_layers - 1) // 2}.hook_resid_post"
        try:
            resid = self.prefix(tokens, [site])[site]
            ours = self.suffix(tokens, site, resid)
        except HookMismatchError:
            raise
        except (TypeError, RuntimeError, AttributeError, IndexError):
            return False  # the model's layout cannot be cut, so full passes are used
        reference = self._base(tokens)
        tolerance = 1e-5 if self.dtype in (torch.float32, torch.float64) else 1e-2
        return bool((ours - reference).float().norm() <= tolerance * reference.float().norm())

    @torch.no_grad()
    def _verify_resid_mid(self, tokens: Tensor) -> bool:
        """Return whether a block adds its MLP's output to what is put at resid_mid. In parallel blocks it does not."""
        self._resid_mid_exists = True
        mid, mlp, post = (f"blocks.0.hook_{kind}" for kind in ("resid_mid", "mlp_out", "resid_post"))
        outputs: list[Tensor] = []
        wanted = torch.randn(*tokens.shape, self.d_model, generator=torch.Generator().manual_seed(0))
        wanted = wanted.to(self.device, self.dtype)
        try:
            hooks = {mid: replacing(parse_site(mid), wanted), mlp: torch.zeros_like, post: outputs.append}
            with self.hooks(hooks):
                self._base(tokens)
        except (HookMismatchError, RuntimeError):
            return False
        return len(outputs) == 1 and torch.equal(outputs[0], wanted)


def replacing(site: Site, activation: Tensor) -> Callable[[Tensor], Tensor]:
    """Return a hook function that replaces the activation at ``site`` by ``activation``."""
    if site.kind == "hook_resid_mid":
        # The hook lies on the way into the MLP's norm, and the block adds the same tensor back after the MLP, so only
        # overwriting it in place reaches both.
        return lambda value: value.copy_(activation)
    return lambda _: activation


def _block_list(model: Any) -> nn.ModuleList:
    """Return the transformer's blocks: the ModuleList in the base model or its decoder with an entry for each layer."""
    lists = [
        module
        for path, module in model.base_model.named_modules()
        if isinstance(module, nn.ModuleList) and path.count(".") <= 1
    ]
    layers = getattr(model.config, "num_hidden_layers", None)
    for module in lists:
        if 0 < len(module) == layers:
            return module
    raise ModelError(
        f"The blocks of {type(model).__name__} cannot be found, so saebench cannot splice this architecture."
    )
