"""Ordered classes 0 to n from n logits z a row, for the recipes: what the kernels take.

c = sigmoid(z) is the probability to be above level k; `conditional`, given that k is reached.
"""

from typing import Any

import numpy as np

from softmap._arrays import Array, common_library_of_peers
from softmap._check import as_array, as_float_array, backend_of, contiguous, empty, placed

__all__ = ["ordinal_cross_entropy", "ordinal_probabilities"]


def ordinal_probabilities(logits: Array, *, conditional: bool) -> Any:
    """Probabilities (..., n + 1) of the levels.

    p[k] = c[k - 1] - c[k] with c[-1] = 1 and c[n] = 0; `conditional`, (1 - c[k]) times the product
    of c[j] over j < k.
    """
    name = "ordinal_probabilities"
    library, like = common_library_of_peers(name, logits=logits)
    z = contiguous(as_float_array(name, "logits", logits))
    p = empty((*z.shape[:-1], z.shape[-1] + 1), z.dtype, z)
    backend_of(z).ordinal_probabilities(z, conditional, p, None)
    return library.from_numpy(p, like)


def ordinal_cross_entropy(logits: Array, level: Array, weights: Array) -> Any:
    """Minus the sum over k of weights[k] log(c[k] if level > k else 1 - c[k]), one a row.

    `level` has the shape of the rows, `weights` (n,) the dtype of the logits.
    """
    name = "ordinal_cross_entropy"
    library, like = common_library_of_peers(name, logits=logits, level=level)
    z = contiguous(as_float_array(name, "logits", logits))
    # Of one row, too, the level is an array: it is read where the logits are.
    y = placed(contiguous(as_array(name, "level", level).reshape(-1), np.int64), z)
    w = placed(contiguous(as_float_array(name, "weights", weights), z.dtype), z)
    loss = empty(z.shape[:-1], z.dtype, z)
    backend_of(z).ordinal_cross_entropy(z, y, w, loss, None)
    return library.from_numpy(loss, like)
