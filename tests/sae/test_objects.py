"""Objects of a Python program as SAEs: what is found out about them, what is refused, and that they do not change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import sae_lens
import torch
from torch import Tensor, nn

import saebench
from saebench.errors import SaebenchError, SAELoadError, UsageError
from saebench.sae.base import BaseAdapter, LoadContext
from saebench.sae.conformance import run_checks
from saebench.sae.object_adapter import adapt_object
from saebench.sae.objects import Objects, holding
from saebench.sae.protocol import Capability, HookSite, SparseCodes
from saebench.sae.reference import load_sae, parse_sae_ref
from tests.sae.conftest import build

SITE = "blocks.1.hook_resid_post"
D_IN, D_SAE = 8, 40
CONTEXT = LoadContext(hook=HookSite.at(SITE), hook_named=True, d_in=lambda _: D_IN)


class Plain(nn.Module):
    """A ReLU or TopK SAE as people write it."""

    def __init__(self, k: int | None = None, seed: int = 0, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(seed)
        self.encoder, self.decoder = nn.Linear(D_IN, D_SAE), nn.Linear(D_SAE, D_IN)
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=draw) * 0.4
        self.k = k
        self.to(dtype)

    def encode(self, x: Tensor) -> Tensor:
        z = torch.relu(self.encoder(x))
        if self.k is None:
            return z
        kept = z.topk(self.k, dim=-1)
        return torch.zeros_like(z).scatter_(-1, kept.indices, kept.values)

    def decode(self, z: Tensor) -> Tensor:
        return self.decoder(z)


class Changed(Plain):
    """An SAE with another encode or decode."""

    def __init__(self, encode: Callable[..., Any] | None = None, decode: Callable[..., Any] | None = None) -> None:
        super().__init__(k=4)
        self.own_encode, self.own_decode = encode, decode

    def encode(self, x: Tensor) -> Any:
        return self.own_encode(super().encode(x), x) if self.own_encode else super().encode(x)

    def decode(self, z: Tensor) -> Any:
        return self.own_decode(super().decode(z), z) if self.own_decode else super().decode(z)


def adapted(found: Any, **changes: Any) -> Any:
    return adapt_object(found, "object:mine", LoadContext(**{**vars(CONTEXT), **changes}))


def wrapped(sae: Any, **options: Any) -> Any:
    return saebench.wrap(sae.encode, sae.decode, **{"hook": SITE, "d_in": D_IN, "name": "mine", **options})


def x_of(*shape: int) -> Tensor:
    return torch.randn(*shape, D_IN, generator=torch.Generator().manual_seed(3)) * 3


def weight_of() -> list[Tensor]:
    return [Plain(seed=7).encoder.weight.detach().double()]


AFFINE = {Capability.LINEAR_DECODER, Capability.ENCODER_DIRECTIONS, Capability.NON_NEGATIVE, Capability.POSITION_WISE}


@pytest.mark.parametrize("make", [adapted, wrapped], ids=["module", "wrap"])
@pytest.mark.parametrize("k", [None, 4])
def test_a_module_passes_every_check(make: Any, k: int | None):
    results = run_checks(lambda: make(Plain(k)), lambda _: D_IN)
    assert [result for result in results if not result.ok] == []


def test_capabilities_are_found():
    assert adapted(Plain()).capabilities == AFFINE  # half of its latents are active
    assert adapted(Plain(k=4)).capabilities == AFFINE | {Capability.SPARSE_ENCODE}
    assert wrapped(Plain(k=4)).capabilities == AFFINE | {Capability.SPARSE_ENCODE}
    # A matrix that cannot be reached is not known.
    hidden = wrapped(Changed(encode=lambda z, x: torch.relu(x.double() @ weight_of()[0].T).float()))
    assert hidden.capabilities == AFFINE - {Capability.ENCODER_DIRECTIONS}
    signed = adapted(Changed(encode=lambda z, x: z - 2 * (z != 0)))
    assert Capability.NON_NEGATIVE not in signed.capabilities


def test_numbers_and_widths_are_those_of_the_module():
    sae, mine = Plain(k=4), adapted(Plain(k=4))
    x = x_of(3, 5)
    assert (mine.d_in, mine.d_sae, mine.d_out, mine.architecture) == (D_IN, D_SAE, D_IN, "Plain")
    torch.testing.assert_close(mine.encode(x), sae.encode(x).detach())
    torch.testing.assert_close(mine.decode(mine.encode(x)), sae.decode(sae.encode(x)).detach())
    torch.testing.assert_close(mine.decoder_directions(), sae.decoder.weight.T.detach())
    torch.testing.assert_close(wrapped(sae).decoder_directions(), sae.decoder.weight.T.detach())
    torch.testing.assert_close(mine.encoder_directions(), sae.encoder.weight.detach())


@pytest.mark.parametrize(
    "decode",
    [
        lambda xhat, z: torch.tanh(xhat),
        lambda xhat, z: xhat * z.norm(dim=-1, keepdim=True),
        lambda xhat, z: xhat + z.clamp(max=0).sum(-1, keepdim=True),  # linear for the encoder's own codes
        lambda xhat, z: xhat + z[..., :1] * z[..., 1:2],
    ],
    ids=["tanh", "norm", "negative", "product"],
)
def test_a_decoder_that_is_not_linear_is_noticed(decode: Any):
    sae = adapted(Changed(decode=decode))
    assert Capability.LINEAR_DECODER not in sae.capabilities
    with pytest.raises(SaebenchError, match="no linear_decoder"):
        sae.decoder_directions()


def test_a_matrix_of_another_meaning_is_not_taken_for_the_decoder():
    sae = Changed(decode=lambda xhat, z: 2 * xhat)
    torch.testing.assert_close(adapted(sae).decoder_directions(), 2 * sae.decoder.weight.T.detach())
    scaled = adapted(Changed(encode=lambda z, x: 2 * z))
    assert Capability.ENCODER_DIRECTIONS not in scaled.capabilities


def test_an_encoder_that_mixes_tokens_is_not_position_wise():
    mixed = adapted(Changed(encode=lambda z, x: z * (1 + x.mean(dim=-2, keepdim=True).abs().mean())))
    assert Capability.POSITION_WISE not in mixed.capabilities
    assert mixed.encode(x_of(2, 5)).shape == (2, 5, D_SAE)


def test_an_encoder_of_sequences_or_of_rows_only():
    def rows(z: Tensor, x: Tensor) -> Tensor:
        n, _ = x.shape
        return z.reshape(n, -1)

    def sequences(z: Tensor, x: Tensor) -> Tensor:
        b, p, _ = x.shape
        return z.reshape(b, p, -1)

    for encode in (rows, sequences):
        sae = adapted(Changed(encode=encode))
        assert Capability.POSITION_WISE in sae.capabilities
        for shape in ((2, 5), (7,), (0,)):
            torch.testing.assert_close(sae.encode(x_of(*shape)), Plain(k=4).encode(x_of(*shape)).detach())
            assert sae.decode(sae.encode(x_of(*shape))).shape == (*shape, D_IN)


def test_sparse_codes_are_taken_where_the_width_is_known():
    def sparse(z: Tensor, x: Tensor) -> SparseCodes:
        kept = z.topk(4, dim=-1)
        return SparseCodes(kept.values, kept.indices)

    sae = Changed(encode=sparse)
    torch.testing.assert_close(wrapped(sae, d_sae=D_SAE).encode(x_of(5)), Plain(k=4).encode(x_of(5)).detach())
    with pytest.raises(SAELoadError, match="give d_sae="):
        wrapped(sae)
    with pytest.raises(SAELoadError, match="not below d_sae=5"):
        wrapped(sae, d_sae=5)


WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "shape": (lambda: Changed(encode=lambda z, x: z.sum(-1)), r"encode gave shape \(32,\) for inputs of shape"),
    "transposed": (lambda: Changed(encode=lambda z, x: z.transpose(-1, -2)), "must give the latents of each token"),
    "nan": (lambda: Changed(encode=lambda z, x: z / 0), "encode gave NaN or Inf in"),
    "tuple": (lambda: Changed(encode=lambda z, x: (z, x)), r"a tuple of 2, not a torch tensor.*sae.encode\(x\)\[0\]"),
    "dict": (lambda: Changed(encode=lambda z, x: {"z": z}), "an object of type dict"),
    "none": (lambda: Changed(encode=lambda z, x: None), "encode returned None"),
    "numpy": (lambda: Changed(encode=lambda z, x: z.numpy()), r"a numpy array.*torch\.from_numpy"),
    "raises": (lambda: Changed(encode=lambda z, x: {}["k"]), "encode failed with KeyError.*so correct it, or wrap it"),
    "bool": (lambda: Changed(encode=lambda z, x: z > 0), "numbers of type torch.bool"),
    "decode raises": (lambda: Changed(decode=lambda xhat, z: 1 // 0), "decode failed with ZeroDivisionError"),
    "decode numpy": (lambda: Changed(decode=lambda xhat, z: np.zeros(3)), "decode returned a numpy array"),
    "decode nan": (lambda: Changed(decode=lambda xhat, z: xhat * torch.inf), "decode gave NaN or Inf"),
    "decode shape": (lambda: Changed(decode=lambda xhat, z: xhat[..., 0]), "decode gave shape"),
    "decode width": (lambda: Changed(decode=lambda xhat, z: xhat[..., 1:]), "decode gives 7 dimensions where"),
}


@pytest.mark.parametrize("case", list(WRONG))
def test_what_is_wrong_is_said_in_one_sentence(case: str):
    make, message = WRONG[case]
    for check in (adapted, wrapped):
        with pytest.raises(SAELoadError, match=message) as error:
            check(make())
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_weights_of_other_types(dtype: torch.dtype):
    reference, sae = Plain(k=4), Plain(k=4, dtype=dtype)
    mine = adapted(sae)
    assert mine.capabilities == AFFINE | {Capability.SPARSE_ENCODE}
    z = mine.encode(x_of(5).bfloat16())
    assert (z.dtype, mine.decode(z).dtype, mine.decoder_directions().dtype) == (torch.float32,) * 3
    torch.testing.assert_close(mine.decode(z), reference.decode(z).detach(), rtol=0.05, atol=0.1)
    assert {parameter.dtype for parameter in sae.parameters()} == {dtype}


def test_an_object_on_another_device_stays_there():
    class Elsewhere(Plain):
        """Stands for a GPU: it takes float64 only, as an object on a GPU takes tensors of the GPU only."""

        def encode(self, x: Tensor) -> Tensor:
            assert x.dtype == torch.float64
            return super().encode(x)

    sae = Elsewhere(dtype=torch.float64)
    assert adapted(sae).encode(x_of(2)).dtype == torch.float32
    assert adapted(sae).to("meta").d_in == D_IN
    assert next(sae.parameters()).device.type == "cpu"


def test_nothing_about_the_module_changes():
    sae = Plain(k=4)
    sae.decoder.eval()
    sae.dropout = nn.Dropout(0.5)
    sae.encoder.weight.grad = torch.ones_like(sae.encoder.weight)
    before = {name: tensor.clone() for name, tensor in sae.state_dict().items()}
    attributes = set(vars(sae))
    torch.manual_seed(5)
    expected = torch.randn(3)
    torch.manual_seed(5)
    mine = adapted(sae).to("cpu")
    z = mine.encode(x_of(4))
    mine.decode(z)
    mine.decoder_directions()
    assert (sae.training, sae.encoder.training, sae.decoder.training, sae.dropout.training) == (True, True, False, True)
    assert all(parameter.requires_grad for parameter in sae.parameters())
    assert not z.requires_grad
    assert sae.encoder.weight.grad.sum() == sae.encoder.weight.numel()
    assert set(vars(sae)) == attributes
    assert all(torch.equal(before[name], tensor) for name, tensor in sae.state_dict().items())
    assert torch.equal(torch.randn(3), expected)  # the random numbers of the program go on as they would have


def test_modules_are_evaluated_without_dropout_and_gradients():
    class Dropped(Plain):
        def encode(self, x: Tensor) -> Tensor:
            assert not self.training
            assert not torch.is_grad_enabled()
            return nn.functional.dropout(super().encode(x), training=self.training)

    sae = Dropped().train()
    torch.testing.assert_close(adapted(sae).encode(x_of(3)), Plain().encode(x_of(3)).detach())
    assert sae.training


def test_an_object_may_write_into_what_it_is_given():
    def encode(x: Tensor) -> Tensor:
        return torch.relu_(x.mul_(2))

    sae = saebench.wrap(encode, lambda z: z.div_(2), hook=SITE, d_in=D_IN)
    x = x_of(4)
    kept = x.clone()
    z = sae.encode(x)
    kept_z = z.clone()
    sae.decode(z)
    assert torch.equal(x, kept)
    assert torch.equal(z, kept_z)


def test_a_decoder_that_needs_the_input_gets_it():
    def decode(z: Tensor, x: Tensor) -> Tensor:
        return z[..., :D_IN] + x

    sae = saebench.wrap(lambda x: torch.relu(x @ torch.eye(D_IN, D_SAE)), decode, hook=SITE, d_in=D_IN)
    x = x_of(4)
    torch.testing.assert_close(sae.decode(sae.encode(x), x), torch.relu(x) + x)
    assert Capability.LINEAR_DECODER in sae.capabilities


def test_a_transcoder_names_both_hook_points():
    sae = Changed(decode=lambda xhat, z: xhat[..., 1:])
    mine = wrapped(sae, hook="blocks.1.hook_resid_mid->blocks.1.hook_mlp_out")
    assert (str(mine.hook), mine.d_out) == ("blocks.1.hook_resid_mid->blocks.1.hook_mlp_out", D_IN - 1)
    assert Capability.TRANSCODER in mine.capabilities


def test_w_dec_is_used_if_it_is_right():
    sae = Plain(k=4)
    rows = sae.decoder.weight.T.detach().contiguous()
    assert torch.equal(wrapped(sae, W_dec=rows).decoder_directions(), rows)
    with pytest.raises(SAELoadError, match=r"is not z @ W_dec; leave W_dec out"):
        wrapped(sae, W_dec=2 * rows)
    with pytest.raises(SAELoadError, match=r"W_dec must be a tensor of shape \(40, 8\)"):
        wrapped(sae, W_dec=rows.T)
    with pytest.raises(SAELoadError, match="decode is not linear"):
        wrapped(Changed(decode=lambda xhat, z: xhat.tanh()), W_dec=rows)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"d_in": 0}, "d_in must be a whole number above 0, not 0"),
        ({"d_sae": "9"}, "d_sae must be a whole number above 0"),
        ({"d_sae": 9}, "encode gives 40 latents, and d_sae says 9"),
        ({"hook": 3}, "its hook must be the name of a hook point"),
        ({"hook": "a->"}, "its hook must be the name of a hook point"),
        ({"encode": 3}, "encode must be a function, not a int"),
        ({"d_in": 5}, "encode failed with RuntimeError"),
    ],
)
def test_wrong_arguments_of_wrap(options: dict[str, Any], message: str):
    sae = Plain()
    with pytest.raises(SaebenchError, match=message):
        saebench.wrap(**{"encode": sae.encode, "decode": sae.decode, "hook": SITE, "d_in": D_IN, **options})


class TestFingerprint:
    def test_it_is_the_same_for_equal_objects(self):
        assert adapted(Plain(k=4)).fingerprint() == adapted(Plain(k=4)).fingerprint()
        sae = Plain(k=4)
        first = adapted(sae).fingerprint()
        adapted(sae.train()).encode(x_of(3))
        assert adapted(sae.eval()).fingerprint() == first

    @pytest.mark.parametrize("make", [adapted, wrapped], ids=["module", "wrap"])
    def test_it_notices_the_smallest_change_of_weights_and_settings(self, make: Any):
        sae = Plain(k=4)
        first = make(sae).fingerprint()
        with torch.no_grad():
            sae.encoder.bias[7] += 1e-6
        second = make(sae).fingerprint()
        sae.k = 5
        assert len({first, second, make(sae).fingerprint()}) == 3

    def test_it_notices_weights_that_functions_close_over(self):
        weights = Plain().encoder.weight.detach().clone()
        bias, config = np.zeros(D_SAE, np.float32), {"threshold": 0.25}

        def encode(x: Tensor) -> Tensor:
            z = x @ weights.T + torch.from_numpy(bias)
            return z * (z > config["threshold"])

        def print_of() -> str:
            return saebench.wrap(encode, lambda z: z @ weights, hook=SITE, d_in=D_IN).fingerprint()

        seen = {print_of()}
        assert print_of() in seen
        weights[0, 0] += 1e-6
        seen.add(print_of())
        bias[3] = 1e-7
        seen.add(print_of())
        config["threshold"] = 0.2500001
        seen.add(print_of())
        assert len(seen) == 4

    def test_it_notices_edited_code(self):
        def of(source: str) -> str:
            names: dict[str, Any] = {"torch": torch, "__name__": "mine", "W": Plain().encoder.weight.detach()}
            exec(source, names)
            return adapted(type("Mine", (), {"encode": names["encode"], "decode": names["decode"]})()).fingerprint()

        code = "def encode(self, x):\n    return torch.relu(x @ W.T - 0.5)\ndef decode(self, z):\n    return z @ W\n"
        first = of(code)
        assert of(code.replace("):\n", "):\n    'A docstring.'\n    # a comment\n")) == first
        assert of(code.replace("0.5", "0.50001")) != first

    def test_what_calls_change_does_not_count(self):
        class Counting(Plain):
            calls, last = 0, None

            def encode(self, x: Tensor) -> Tensor:
                self.calls, self.last = self.calls + 1, x
                return super().encode(x)

        sae = Counting(k=4)
        first = adapted(sae).fingerprint()
        sae.encode(x_of(5))
        assert adapted(sae).fingerprint() == first

    def test_a_loop_of_objects_ends(self):
        sae = Plain()
        sae.parent = [{"me": sae}]
        assert adapted(sae).fingerprint() == adapted(sae).fingerprint()

    def test_of_an_adapter_that_is_trained_on(self):
        class Mine(BaseAdapter):
            def __init__(self) -> None:
                super().__init__(name="mine", architecture="x", hook=HookSite.at(SITE), d_in=D_IN, d_sae=D_IN)
                self.scale = nn.Parameter(torch.ones(D_IN))

            def encode(self, x: Tensor) -> Tensor:
                return x.float() * self.scale

            def decode(self, z: Tensor, x: Tensor | None = None) -> Tensor:
                return z / self.scale

        sae = Mine()
        first = adapted(sae).fingerprint()
        assert adapted(sae).fingerprint() == first
        assert "fingerprint" not in vars(sae)  # as an SAE of `python:` would have
        with torch.no_grad():
            sae.scale[0] += 1e-6
        assert adapted(sae).fingerprint() != first


def test_an_sae_of_saelens_is_copied():
    lens = build("topk", metadata={"hook_name": SITE}).double()
    mine = adapt_object(lens, "object:mine", LoadContext())
    assert (mine.architecture, str(mine.hook)) == ("topk", SITE)
    assert lens.W_dec.dtype == torch.float64
    first = mine.fingerprint()
    with torch.no_grad():
        lens.W_dec[0, 0] += 1e-3
    assert adapt_object(lens, "object:mine", LoadContext()).fingerprint() != first


def test_an_sae_of_saelens_in_training():
    config = sae_lens.StandardTrainingSAEConfig(
        d_in=D_IN, d_sae=D_SAE, metadata=sae_lens.saes.sae.SAEMetadata(hook_name=SITE)
    )
    mine = adapt_object(sae_lens.StandardTrainingSAE(config), "object:mine", LoadContext())
    assert (str(mine.hook), mine.d_in, mine.d_sae) == (SITE, D_IN, D_SAE)


class TestNames:
    def test_every_way_to_give_objects(self):
        a, b, named = Plain(), Plain(), wrapped(Plain())
        assert Objects().references(a) == ["object:Plain"]
        assert Objects().references("zoo:x") == ["zoo:x"]
        assert Objects().references([a, "zoo:x", named]) == ["object:Plain", "zoo:x", "object:mine"]
        assert Objects().references([a, b, a]) == ["object:Plain-1", "object:Plain-2"]
        assert Objects().references({"first": a, "second": b}) == ["object:first", "object:second"]
        assert Objects().references([{"first": a}, "zoo:x", b]) == ["object:first", "zoo:x", "object:Plain"]
        assert Objects().references(nn.ModuleList([a, b])) == ["object:Plain-1", "object:Plain-2"]

    def test_any_text_may_be_a_name(self):
        objects = Objects()
        for name in ("a b", "50 %?x=1", "f(x),y", "größe", "sae_lens:/a/b"):
            [reference] = objects.references({name: Plain()})
            with holding(objects):
                assert str(parse_sae_ref(reference)) == reference
                assert parse_sae_ref(f"baseline:permuted-decoder({reference})").inner == parse_sae_ref(reference)

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            (3, "one of type int has no encode and no decode; saebench.wrap"),
            (b"x", "one of type bytes has no encode"),
            (nn.Linear(2, 2), "one of type Linear has no encode and no decode"),
            (Plain, "Plain is a class; give an instance of it"),
            ([Plain], "Plain is a class"),
            ([[Plain()]], "one of type list has no encode"),
            ({"a": "zoo:x"}, "'a' is a reference, and references keep their own names"),
            ({3: Plain()}, "3 is no name"),
            ({"": Plain()}, "'' is no name"),
            ({"a": 4}, r"Option 'sae' \('a'\): an SAE is a reference or an object"),
        ],
    )
    def test_what_is_no_sae(self, given: Any, message: str):
        with pytest.raises(UsageError, match=message):
            Objects().references(given)

    def test_a_reference_means_something_only_during_the_run(self):
        objects = Objects()
        objects.references({"mine": Plain()})
        with holding(objects):
            assert load_sae("object:mine", CONTEXT).name == "object:mine"
            with pytest.raises(UsageError, match="this run was given no such object"):
                parse_sae_ref("object:mime")
        with pytest.raises(UsageError, match="was an object in a Python program and cannot be named here"):
            parse_sae_ref("object:mine")


def test_no_hook():
    with pytest.raises(SAELoadError, match="names no hook point"):
        adapted(Plain(), hook_named=False)


def test_the_width_is_that_of_the_language_model_unless_the_object_tells_it():
    with pytest.raises(SAELoadError, match="does not tell how wide its input is"):
        adapted(Plain(), d_in=None)
    sae = Plain()
    sae.d_in = D_IN
    assert adapted(sae, d_in=None).d_in == D_IN
