"""A short run of every kernel, for compute-sanitizer: CuPy alone, and without its pools.

A pool would hide an access past the end of an array. Nothing here needs a kernel of CuPy but the
filling of small constants. Run it as `compute-sanitizer --tool memcheck python sanitize.py`.
"""

import cupy
import numpy as np

import softmap

RNG = np.random.default_rng(3)
# For each way to take a row: in registers, in shared memory, by several blocks, strided.
WIDTHS = (1, 2, 4, 5, 8, 17, 32, 33, 100, 1000, 1025, 5000, 16_384, 33_000, 128_256, 262_145)


def rows(width, dtype):
    """No multiple of anything, so that the last block and the last piece of a row are short."""
    return RNG.normal(0, 5, (max(2, min(67, 70_000 // width)), width)).astype(dtype)


def softmax_family(put):
    for width in WIDTHS:
        for dtype in (np.float32, np.float16, np.float64):
            x = rows(width, dtype)
            for function in (softmap.softmax, softmap.log_softmax, softmap.logsumexp):
                yield function(put(x), -1), function(x, -1)
        x = rows(width, np.float32)
        yield softmap.softmax(put(x).transpose(), 0), softmap.softmax(x.T, 0)
        if width > 2:
            yield softmap.softmax(put(x)[:, 1:], -1), softmap.softmax(x[:, 1:], -1)
            calls = (
                lambda x: softmap.level_scores(x, [0, [1, 2]], [1, 2], mass=True).mass,
                lambda x: softmap.row_statistics(x, target=1).entropy,
                lambda x: softmap.logsumexp_partial(x)[0],
                lambda x: softmap.row_filter(x, "top_p", 0.9),
                lambda x: softmap.row_root(x, "sigmoid_sum", 1.5),
            )
            for call in calls:
                yield lambda call=call, x=x: call(put(x)), call(x)


def pairwise_and_fits(put):
    for n in (2, 5, 64, 67):
        s = RNG.normal(0, 1, (3, n))
        wins = RNG.integers(1, 9, (3, n, n)).astype(float)
        for dtype in (np.float32, np.float64):
            for call in (
                lambda s, w: softmap.preference(s, s[:1]),
                lambda s, w: softmap.preference_matrix(s),
                lambda s, w: softmap.outcome_matrices(s, ties="davidson", tie_strength=1.0).tie,
                lambda s, w: softmap.log_likelihood(s, w, gradient=True).gradient,
                lambda s, w: softmap.fit_many(w, prior_sd=1.0).scores,
            ):
                if n <= 64:
                    a, b = s.astype(dtype), wins.astype(dtype)
                    yield lambda call=call, a=a, b=b: call(put(a), put(b)), call(a, b)
    x = RNG.random((130, 5))
    table = np.full((5, 5), 0.5)
    call = softmap.score_against_anchors
    yield lambda: call(put(x), table).score, call(x, table).score


def main():
    cupy.cuda.set_allocator(None)
    softmap.preload()
    n_calls = n_without = 0
    for family in (softmax_family, pairwise_and_fits):
        for result, want in family(cupy.asarray):
            try:
                got = cupy.asnumpy(result() if callable(result) else result)
            except softmap.BackendMissingError:
                n_without += 1
                continue
            n_calls += 1
            tolerance = 3e-3 if got.dtype == np.float16 else 1e-4
            np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance)
    print(f"{n_calls} calls agree with the CPU; {n_without} without a kernel")


if __name__ == "__main__":
    main()
