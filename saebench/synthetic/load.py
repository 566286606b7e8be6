"""Making a synthetic model from its recipe, and loading one from a folder that SAELens wrote."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from saebench.errors import ModelError
from saebench.files import read_json
from saebench.synthetic.model import SyntheticModel
from saebench.synthetic.recipes import RECIPES, Recipe
from saebench.synthetic.reference import CONFIG, SyntheticRef

if TYPE_CHECKING:
    from sae_lens.synthetic import Hierarchy
    from sae_lens.synthetic import SyntheticModel as OfSAELens

_WEIGHTS, _HIERARCHY = "synthetic_model.safetensors", "hierarchy.json"
_NARROWER = 4  # features for each latent of SAEs on a model of others, as in arXiv 2602.14687


def load_synthetic(ref: SyntheticRef) -> SyntheticModel:
    """Return the model that a reference names.

    Raises:
        ModelError: The folder does not hold a synthetic model of SAELens, or it is damaged.
    """
    if ref.folder:
        return _from_folder(Path(ref.name), str(ref))
    return make(RECIPES[ref.name], ref.seed, str(ref))


def make(recipe: Recipe, seed: int, name: str) -> SyntheticModel:
    """Make the model of a recipe.

    Args:
        recipe: The recipe.
        seed: The seed of everything that is drawn.
        name: The reference, for records and messages.
    """
    from sae_lens.synthetic import SyntheticModel as OfSAELens

    config = _config(recipe, seed)
    made = OfSAELens(config, feature_dict=_dictionary(recipe, seed))
    return _model(made, name=name, content_hash=recipe.content_hash(seed), latents=recipe.latents)


def _config(recipe: Recipe, seed: int) -> Any:
    from sae_lens import synthetic

    return synthetic.SyntheticModelConfig(
        num_features=recipe.n_features,
        hidden_dim=recipe.d,
        firing_probability=synthetic.ZipfianFiringProbabilityConfig(
            exponent=recipe.exponent, max_prob=recipe.p_max, min_prob=recipe.p_min
        ),
        hierarchy=synthetic.HierarchyConfig(
            total_root_nodes=recipe.roots,
            branching_factor=recipe.branching,
            max_depth=recipe.depth,
            mutually_exclusive_portion=1.0,
            compensate_probabilities=True,
        )
        if recipe.roots
        else None,
        correlation=synthetic.LowRankCorrelationConfig(rank=recipe.rank, correlation_scale=recipe.correlation)
        if recipe.rank
        else None,
        std_firing_magnitudes=synthetic.FoldedNormalMagnitudeConfig(mean=recipe.spread, std=recipe.spread),
        mean_firing_magnitudes=synthetic.LinearMagnitudeConfig(start=recipe.magnitude_first, end=recipe.magnitude_last),
        bias=recipe.bias,
        seed=seed,
    )


def _dictionary(recipe: Recipe, seed: int) -> Any:
    from sae_lens.synthetic import FeatureDictionary

    dictionary = FeatureDictionary(recipe.n_features, recipe.d, recipe.bias, initializer=None, seed=seed)
    with torch.no_grad():
        directions = dictionary.feature_vectors
        steps = recipe.orthogonal
        directions.copy_(_orthogonal(directions) if steps is None else _pushed_apart(directions, steps))
    return dictionary


def _orthogonal(directions: Tensor) -> Tensor:
    return torch.linalg.qr(directions.double().T).Q.T


def _pushed_apart(directions: Tensor, steps: int) -> Tensor:
    """Return unit vectors with a smaller sum of squared cosines, by steps of gradient descent on the sphere."""
    rate = 0.5 * min(1.0, directions.shape[1] / len(directions))  # the largest eigenvalue of the cosines is about n / d
    for _ in range(steps):
        cosines = (directions @ directions.T).fill_diagonal_(0)
        directions = normalize(directions - rate * cosines @ directions, dim=-1)
    return directions


def _from_folder(folder: Path, name: str) -> SyntheticModel:
    """Load a folder of SAELens: a config and a hierarchy in JSON, and weights in safetensors. No code in it can run."""
    from sae_lens.synthetic import SyntheticModel as OfSAELens

    config = read_json(folder / CONFIG, "config of a synthetic model", ModelError)
    weights = _read_weights(folder / _WEIGHTS, name)
    _check_shapes(config, weights, name)
    texts = [json.dumps(config, sort_keys=True)]
    if (folder / _HIERARCHY).is_file():
        hierarchy = read_json(folder / _HIERARCHY, "hierarchy of features", ModelError)
        _check_hierarchy(hierarchy, config["num_features"], name)
        texts.append(json.dumps(hierarchy, sort_keys=True))
    try:
        loaded = OfSAELens.load_from_disk(folder)
    except Exception as error:  # SAELens checks its files by what happens when they are used
        raise ModelError(
            f"{name}: SAELens cannot load it ({type(error).__name__}: {' '.join(str(error).split())}); fetch or make "
            "it again."
        ) from error
    digest = hashlib.sha256("|".join(texts).encode())
    for key in sorted(weights):
        digest.update(f"|{key}|{tuple(weights[key].shape)}|".encode())
        digest.update(weights[key].float().contiguous().numpy().data)
    latents = max(1, len(weights["feature_vectors"]) // _NARROWER)
    return _model(loaded, name=name, content_hash=digest.hexdigest(), latents=latents)


def _read_weights(path: Path, name: str) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        reason = " ".join(str(error).split())
        raise ModelError(f"{name}: {path.name} cannot be read ({reason}); fetch or make it again.") from error


def _check_shapes(config: Any, weights: dict[str, Tensor], name: str) -> None:
    """Raise ModelError unless config and weights agree, so that SAELens takes no more memory than the files tell."""
    sizes = (config.get("num_features"), config.get("hidden_dim")) if isinstance(config, dict) else (None, None)
    shapes = {"feature_vectors": sizes, "bias": sizes[1:], "firing_probabilities": sizes[:1]}
    for key, shape in shapes.items():
        if key not in weights or tuple(weights[key].shape) != shape:
            stored = list(weights[key].shape) if key in weights else "missing"
            raise ModelError(
                f"{name}: {key} must have the shape {list(shape)} that {CONFIG} tells, but is {stored}; fetch or make "
                "the model again."
            )


def _check_hierarchy(hierarchy: Any, n_features: int, name: str) -> None:
    """Raise ModelError unless every node is a feature of the model, or none."""
    nodes: list[Any] = [hierarchy.get("roots")] if isinstance(hierarchy, dict) else [None]
    while nodes:
        node = nodes.pop()
        if isinstance(node, list):
            nodes += node
            continue
        index = node.get("feature_index") if isinstance(node, dict) else ""
        if not isinstance(node, dict) or not (index is None or (type(index) is int and 0 <= index < n_features)):
            raise ModelError(
                f"{name}: {_HIERARCHY} names features that the model does not have; fetch or make it again."
            )
        nodes.append(node.get("children", []))


def _model(model: OfSAELens, *, name: str, content_hash: str, latents: int) -> SyntheticModel:
    return SyntheticModel(
        model.activation_generator,
        name=name,
        content_hash=content_hash,
        directions=model.feature_dict.feature_vectors.detach().float(),
        bias=model.feature_dict.bias.detach().float(),
        parents=_parents(model.hierarchy, model.cfg.num_features),
        latents=latents,
    )


def _parents(hierarchy: Hierarchy | None, n_features: int) -> Tensor:
    """Return the parent of each feature, -1 for none."""
    parents = torch.full((n_features,), -1, dtype=torch.long)
    nodes = list(hierarchy.roots) if hierarchy is not None else []
    while nodes:
        node = nodes.pop()
        for child in node.children:
            if child.feature_index is not None and node.feature_index is not None:
                parents[child.feature_index] = node.feature_index
            nodes.append(child)
    return parents
