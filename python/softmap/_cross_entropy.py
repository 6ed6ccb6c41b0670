"""Cross-entropy of the softmaxes of two arrays of logits, row by row, for the recipes."""

from typing import Any

import numpy as np

from softmap._arrays import Array, common_library_of_peers
from softmap._check import (
    as_array,
    as_kernel_array,
    backend_of,
    check_number,
    contiguous,
    converted,
    placed,
)
from softmap.softmax import compute_dtype, read_temperature

__all__ = ["cross_entropy_rows"]


def cross_entropy_rows(
    a: Array, b: Array, temperature: float = 1.0, left_out: Array | None = None
) -> Any:
    """-sum(u log v) a row, where u = softmax(b / temperature) and v = softmax(a / temperature).

    `a` and `b` have one shape. What has u = 0 adds nothing, also where v = 0; where only v is 0 the
    result is inf. A row with NaN or +inf, or of nothing but -inf, gives NaN, and one without a
    column 0.

    `left_out`, of the shape of the rows, names a column that both rows are without. Then the result
    is (cross-entropy, log p, p), with the log p of that column in softmax(a), and its p in
    softmax(b); NaN where there is no such column, and then none is left out.
    """
    name = "cross_entropy"
    library, like = common_library_of_peers(name, a=a, b=b, left_out=left_out)
    x, y = as_kernel_array(name, "a", a), as_kernel_array(name, "b", b)
    if x.dtype != y.dtype:
        wide = np.result_type(compute_dtype(x), compute_dtype(y))
        x, y = converted(x, wide), converted(y, wide)
    number = check_number(name, "temperature", temperature, positive=True)
    t = read_temperature(name, number, x, (x.ndim - 1,))  # within the range of x
    column = np.array(-1, dtype=np.int64)
    if left_out is not None:  # of one row, too, an array: it is read where the logits are
        column = contiguous(as_array(name, "left_out", left_out).reshape(-1), np.int64)
    results = backend_of(x).cross_entropy(x, y, t, placed(column, x), None)
    found = tuple(library.from_numpy(r, like) for r in results)
    return found[0] if left_out is None else found
