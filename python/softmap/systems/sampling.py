"""Truncated sampling: locally typical, top-p, top-k, min-p, epsilon."""

from typing import Any

import numpy as np

from softmap.row_filter import row_filter
from softmap.systems._recipe import float_rows, floats, recipe

__all__ = ["truncated"]


@recipe(logits=float_rows, amount=floats)
def truncated(logits: Any, rule: str, amount: Any, *, min_keep: int = 1) -> Any:
    """Logits with -inf for the tokens that are not to be drawn.

    Parameters
    ----------
    logits : array_like (..., V)
        Logits of the next token, already divided by the sampling temperature.
    rule : {"typical", "top_p", "top_k", "min_p", "epsilon"}
        As in :func:`softmap.row_filter`, which gives the mask alone.
    amount : float or array_like (...)
        Mass, number or probability; transformers has 0.9 for typical by default.
    min_keep : int
        Keep at least so many tokens.

    Returns
    -------
    logits : array (..., V)
        All -inf for a row with NaN or +inf.

    Notes
    -----
    The logits processors of transformers sort each row. At the cut of typical, top_k, min_p and
    epsilon they keep ties, as here; top_p keeps there what its sort put last. Unlike top_p, typical
    sampling may leave out the most probable token.

    Checked against: the definition with a sort in 60 digits, and transformers' arithmetic.

    References
    ----------
    C. Meister et al., "Locally Typical Sampling", TACL 2023, arXiv:2202.00666; the logits
    processors of transformers.

    Examples
    --------
    >>> import numpy as np
    >>> from softmap.systems import sampling
    >>> np.exp(sampling.truncated(np.log([[0.5, 0.25, 0.15, 0.1]]), "typical", 0.2))
    array([[0.  , 0.25, 0.  , 0.  ]])
    """
    return np.where(row_filter(logits, rule, amount, min_keep=min_keep), logits, -np.inf)
