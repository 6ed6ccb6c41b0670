"""row_filter: the rules, ties, masks, bad rows, layouts, threads, errors."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import softmap
from ops.softmax import (
    CUT_BOUND,
    DTYPES,
    FILTERS,
    HALF_DTYPES,
    cut_error,
    get_dtype,
    kept_columns,
    make_row,
)

INF, NAN = np.inf, np.nan
X = np.log([0.5, 0.25, 0.15, 0.1])
AMOUNTS = {
    "typical": [0.2, 0.5, 0.9, 0.95],
    "top_p": [0.1, 0.5, 0.9, 0.999],
    "top_k": [1, 3, 50],
    "min_p": [0.01, 0.3, 1.0],
    "epsilon": [1e-4, 0.03, 0.4],
}
each_rule = pytest.mark.parametrize("rule", FILTERS)


def test_row_filter_by_hand(backend):
    """Entropy 1.208, -log p 0.69, 1.39, 1.90, 2.30: nearest first columns 1, 0, 2, 3."""
    for rule, amount, want in [
        ("top_p", 0.49, [1, 0, 0, 0]), ("top_p", 0.51, [1, 1, 0, 0]), ("top_p", 0.95, [1, 1, 1, 1]),
        ("top_k", 1, [1, 0, 0, 0]), ("top_k", 3, [1, 1, 1, 0]), ("top_k", 9, [1, 1, 1, 1]),
        ("min_p", 0.49, [1, 1, 0, 0]), ("min_p", 0.51, [1, 0, 0, 0]), ("min_p", 1, [1, 0, 0, 0]),
        ("epsilon", 0.12, [1, 1, 1, 0]), ("epsilon", 0.9, [1, 0, 0, 0]),
        ("typical", 0.2, [0, 1, 0, 0]), ("typical", 0.3, [1, 1, 0, 0]),
        ("typical", 0.8, [1, 1, 1, 0]),
    ]:  # fmt: skip
        got = softmap.row_filter(X, rule, amount)
        assert got.dtype == bool
        assert got.tolist() == [bool(k) for k in want], (rule, amount)


@each_rule
@pytest.mark.parametrize("dtype", [*DTYPES, *HALF_DTYPES])
@pytest.mark.parametrize(
    "domain", ["ordinary", "wide", "one dominates", "offset", "descending", "constant", "huge"]
)
def test_row_filter_follows_the_definition(backend, domain, dtype, rule):
    """Between the sets for a slightly smaller and a slightly larger amount: sums are rounded."""
    for width in (1, 2, 5, 17, 65):
        row = make_row(domain, width, dtype)
        slack = 64 * np.finfo("float32" if dtype != "float64" else dtype).eps
        slack *= max(1.0, float(np.log(width)))
        for amount in AMOUNTS[rule]:
            got = softmap.row_filter(row, rule, amount)
            near = (0,) if rule == "top_k" else (-slack, slack)
            low, high = (np.array(kept_columns(row, rule, amount + s)) for s in (near[0], near[-1]))
            if rule in ("min_p", "epsilon"):
                low, high = high, low
            if rule == "typical" and (low != high).any():
                continue
            assert (low <= got).all(), (width, amount)
            assert (got <= high).all(), (width, amount)


@pytest.mark.parametrize("dtype", [*DTYPES, *HALF_DTYPES])
@pytest.mark.parametrize("rule", ["top_p", "typical"])
def test_row_filter_cuts_where_the_mass_is_reached(backend, rule, dtype):
    """Long rows as well, whose sums round more."""
    rng = np.random.default_rng(1)
    for width in (3, 33, 700, 20_000):
        x = rng.normal(0, 3, (5, width)).astype(get_dtype(dtype))
        for amount in AMOUNTS[rule]:
            error = cut_error(x, rule, amount, softmap.row_filter(x, rule, amount))
            assert error.max() <= CUT_BOUND, (width, amount, error)


@pytest.mark.parametrize("rule", ["top_p", "typical"])
def test_wrong_cut_is_found(rule):
    """A column too many, too few, or the wrong one; of top_p, one of two that are equal."""
    x = np.random.default_rng(2).normal(0, 2, (40, 30)).astype(np.float32)
    if rule == "top_p":
        x[:, 7] = x[:, 3]
    kept = softmap.row_filter(x, rule, 0.6)
    assert cut_error(x, rule, 0.6, kept).max() <= CUT_BOUND
    p = softmap.softmax(x.astype(float), -1)
    key = -p if rule == "top_p" else abs(-np.log(p) - (p * -np.log(p)).sum(-1, keepdims=True))
    last = np.where(kept, key, -INF).argmax(-1)
    following = np.where(kept, INF, key).argmin(-1)
    everywhere = np.arange(40)
    equal = [[np.full(40, 3)]] if rule == "top_p" else []
    for changes in ([last], [following], [last, following], *equal):
        wrong = kept.copy()
        for column in changes:
            wrong[everywhere, column] ^= True
        assert cut_error(x, rule, 0.6, wrong).min() > 100 * CUT_BOUND
    assert (cut_error(x, rule, 0.6, np.zeros_like(kept)) == INF).all()
    assert cut_error(x, rule, 0.6, np.ones_like(kept)).min() > 100 * CUT_BOUND


@each_rule
def test_row_filter_keeps_equal_columns_together(backend, rule):
    x = np.repeat([3.0, 1.0, -0.0, 0.0, -2.0, 3.0], 7)
    for amount in AMOUNTS[rule]:
        kept = softmap.row_filter(x, rule, amount)
        for value in set(x.tolist()):
            assert len(set(kept[x == value].tolist())) == 1
    even = softmap.row_filter(np.zeros(9), rule, AMOUNTS[rule][0])
    assert even.all()


@each_rule
def test_row_filter_never_keeps_a_mask(backend, rule):
    x = np.array([0.0, -INF, -1.0, -INF])
    for amount in AMOUNTS[rule]:
        for min_keep in (1, 4):
            kept = softmap.row_filter(x, rule, amount, min_keep=min_keep)
            assert kept.tolist() == kept_columns(x, rule, amount, min_keep)
            assert not kept[[1, 3]].any()
        bad = [[NAN, 0.0, 1.0], [INF, 0.0, 1.0], [-INF] * 3]
        assert not softmap.row_filter(bad, rule, amount).any()


@each_rule
def test_row_filter_keeps_at_least_so_many(backend, rule):
    x = make_row("ordinary", 40, "float64")
    for amount in AMOUNTS[rule]:
        for min_keep in (1, 2, 17, 40, 99):
            got = softmap.row_filter(x, rule, amount, min_keep=min_keep)
            assert got.tolist() == kept_columns(x, rule, amount, min_keep)


@pytest.mark.parametrize("dtype", DTYPES)
@given(seed=st.integers(0, 2**31), rule=st.sampled_from(FILTERS))
def test_row_filter_agrees_with_numpy(backend, dtype, seed, rule):
    """A plain sort on many rows; numbers from a coarse grid, so that ties are the rule."""
    rng = np.random.default_rng(seed)
    x = (rng.integers(-20, 20, (6, 33)) / 4).astype(dtype)
    if rule in ("top_k", "min_p"):
        amount = 7 if rule == "top_k" else np.exp(-3.1)
        bound = np.sort(x, axis=-1)[:, -7:-6] if rule == "top_k" else x.max(-1, keepdims=True) - 3.1
        want = x >= bound
    else:
        amount = 0.37
        p = softmap.softmax(x.astype(np.float64), -1)
        key = -x.astype(np.float64)
        if rule == "typical":
            key = abs(-np.log(p) - (p * -np.log(p)).sum(-1, keepdims=True))
        mass = np.array([[p[i, key[i] < k].sum() for k in key[i]] for i in range(6)])
        want = p >= amount if rule == "epsilon" else mass < amount
        if abs((p if rule == "epsilon" else mass) - amount).min() < 1e-4:
            return
        if rule == "epsilon":
            want |= key == key.min(-1, keepdims=True)
        if rule == "typical" and np.diff(np.unique(np.round(key, 5))).min() < 1e-4:
            return
    np.testing.assert_array_equal(softmap.row_filter(x, rule, amount), want)


@each_rule
def test_row_filter_of_layouts_threads_and_rows(backend, rule):
    """Any axis, any layout, any number of threads, an amount and a temperature a row: same bits."""
    rng = np.random.default_rng(0)
    x = rng.normal(0, 3, (5, 4, 700)).astype(np.float32)
    amount = np.full((5, 4), AMOUNTS[rule][0])
    amount[2] = AMOUNTS[rule][1]
    t = rng.uniform(0.5, 2, (5, 4)).astype(np.float32)
    want = softmap.row_filter(x, rule, amount, temperature=t, n_threads=1)
    for n in (2, 5):
        got = softmap.row_filter(np.concatenate([x] * 9), rule, np.concatenate([amount] * 9),
                                 temperature=np.concatenate([t] * 9), n_threads=n)  # fmt: skip
        np.testing.assert_array_equal(got, np.concatenate([want] * 9))
    for i in range(5):
        one = softmap.row_filter(x[i, 1], rule, amount[i, 1], temperature=float(t[i, 1]))
        np.testing.assert_array_equal(one, want[i, 1])
    moved = np.moveaxis(np.asfortranarray(x), -1, 0)
    got = softmap.row_filter(moved, rule, amount, 0, temperature=t)
    np.testing.assert_array_equal(np.moveaxis(got, 0, -1), want)
    long = np.sin(np.arange(300_000.0))
    assert softmap.row_filter(long, rule, AMOUNTS[rule][0], n_threads=2).tolist() == (
        softmap.row_filter(long, rule, AMOUNTS[rule][0], n_threads=1).tolist()
    )
    assert softmap.row_filter(np.zeros((0, 4)), rule, AMOUNTS[rule][0]).shape == (0, 4)
    assert softmap.row_filter(np.zeros((4, 0)), rule, AMOUNTS[rule][0]).shape == (4, 0)


@each_rule
def test_row_filter_leaves_out_rows_of_a_wrong_amount(backend, rule):
    x = np.zeros((6, 3))
    good = AMOUNTS[rule][0]
    beyond = 0.5 if rule == "top_k" else INF
    kept = softmap.row_filter(x, rule, [good, 0.0, -1.0, NAN, beyond, good])
    assert kept.any(axis=-1).tolist() == [True, False, False, False, False, True]
    t = [1.0, 0.0, -1.0, NAN, INF, 2.0]
    kept = softmap.row_filter(x, rule, good, temperature=t)
    assert kept.any(axis=-1).tolist() == [True, False, False, False, False, True]


def test_row_filter_errors():
    for error, message, call in [
        (ValueError, "rule = 'nucleus', it must be one of typical, top_p", ("nucleus", 0.5)),
        (ValueError, "amount = 1, for top_p it must be below 1", ("top_p", 1)),
        (ValueError, "amount = 1.5, for min_p it must be below 1", ("min_p", 1.5)),
        (ValueError, "amount = 2.5, for top_k it must be a whole number", ("top_k", 2.5)),
        (ValueError, "amount = 0, it must be finite and above 0", ("epsilon", 0)),
        (TypeError, "amount = 'a', it must be a number", ("epsilon", "a")),
        (ValueError, r"amount has shape \(3,\), it must be a number or have shape \(2,\)",
         ("top_p", [0.5] * 3)),
    ]:  # fmt: skip
        with pytest.raises(error, match=message):
            softmap.row_filter(np.zeros((2, 4)), *call)
    for k in (0, True, 1.5):
        with pytest.raises(ValueError, match=f"min_keep = {k}, it must be an integer of at least"):
            softmap.row_filter(X, "top_k", 2, min_keep=k)
    with pytest.raises(ValueError, match="axis 1 is out of range"):
        softmap.row_filter(X, "top_k", 2, 1)


def test_row_filter_of_bfloat16_bits_and_of_integers(backend):
    x = make_row("ordinary", 30, "bfloat16")
    bits = np.asarray(x).view(np.uint16).view([("bfloat16", "u2")])
    assert x.dtype == get_dtype("bfloat16")
    np.testing.assert_array_equal(
        softmap.row_filter(bits, "top_p", 0.6), softmap.row_filter(x, "top_p", 0.6)
    )
    assert softmap.row_filter([3, 1, 2], "top_k", 2).tolist() == [True, False, True]
