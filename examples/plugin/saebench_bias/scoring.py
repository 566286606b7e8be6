"""How long the reconstructions of an SAE are, beside the activations."""

import numpy as np

from saebench.evaluation.report import Ratio
from saebench.passes.captured import CapturedText
from saebench.sae.protocol import SAE


def squares_and_products(sae: SAE, captured: CapturedText) -> Ratio:
    """The sums of ``||xhat||^2`` and ``xhat . x`` over each sequence's evaluated tokens, ``[sequences]`` each."""
    squares, products = np.zeros(captured.n_sequences), np.zeros(captured.n_sequences)
    for sequence, (source, target) in captured.tokens(sae.hook.site_in, sae.hook.site_out):
        xhat = sae.decode(sae.encode(source), source).double()
        for total, values in ((squares, xhat * xhat), (products, xhat * target.double())):
            total += np.bincount(sequence.numpy(), values.sum(-1).cpu().numpy(), minlength=len(total))
    return squares, products
