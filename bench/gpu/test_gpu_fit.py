"""Batched fits on a GPU against Newton's method in torch; goals are fits a second."""

import pytest

import softmap
from gpu_timing import DEVICE, DRY_RUN, compare, report, torch
from ops.fit import ANCHORS

GOAL = {("float32", 6): 1e9, ("float64", 6): 3e8}
BATCH = {4: 1 << 22, 6: 1 << 22, 8: 1 << 21, 12: 1 << 19, 16: 1 << 18, 32: 1 << 15, 64: 1 << 12}


def tables(count, n, dtype):
    """Ordinary counts: scores of unit spread, 1 to 9 comparisons a pair."""
    s = torch.randn((count, n), device=DEVICE)
    games = torch.randint(1, 10, (count, n, n), device=DEVICE).float().triu(1)
    won = torch.binomial(games, torch.sigmoid(s[:, :, None] - s[:, None, :]))
    return (won + (games - won).mT).to(dtype)


def newton(wins, steps=6):
    """With the library's batched Cholesky: a few kernels a step."""
    games = wins + wins.mT
    n = wins.shape[-1]
    s = wins.new_zeros(wins.shape[:-1])
    eye = torch.eye(n, device=wins.device, dtype=wins.dtype)
    for _ in range(steps):
        p = torch.sigmoid(s[:, :, None] - s[:, None, :])
        gradient = (wins - games * p).sum(2) - s
        curve = games * p * (1 - p)
        hessian = torch.diag_embed(curve.sum(2)) - curve + eye
        factor, _ = torch.linalg.cholesky_ex(hessian)
        s = s + torch.cholesky_solve(gradient[:, :, None], factor)[:, :, 0]
    return s


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", BATCH)
def test_fit_many(benchmark, n, dtype):
    count = 8 if DRY_RUN else BATCH[n]
    kind = getattr(torch, dtype)
    tol = 1e-5 if dtype == "float32" else 1e-10
    wins = tables(count, n, kind)
    few = wins[:1000]
    want = newton(few.double(), 12)
    got = softmap.fit_many(few, prior_sd=1.0, tol=tol)
    assert int(got.status.max()) == 0
    bound = 2e-5 if dtype == "float32" else 1e-9
    torch.testing.assert_close(got.scores.double(), want, rtol=bound, atol=bound)
    rival = wins[: max(1, count // 64)]
    candidates = {
        "softmap": lambda w, _: softmap.fit_many(w, prior_sd=1.0, tol=tol),
        "torch": lambda _, w: newton(w),
    }
    n_bytes = wins.nbytes + count * n * kind.itemsize
    times = compare(candidates, [(wins, rival)], eager=("torch",))
    times["torch"] = [t * count / len(rival) for t in times["torch"]]
    per_second = (count, "fits", GOAL.get((dtype, n)))
    report(benchmark, f"fit_many {dtype} {count} x {n}", times, n_bytes, per_second=per_second)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("link", ["logit", "probit"])
def test_score_against_anchors(benchmark, link, dtype):
    """Compare2Score: joint maximum a posteriori fits of 6 x 6 from five preferences each."""
    count = 8 if DRY_RUN else 1 << 23
    kind = getattr(torch, dtype)
    x = torch.rand((count, 5), device=DEVICE, dtype=kind)
    some = x[:1000].cpu().numpy()
    want = softmap.score_against_anchors(some.astype("f8"), ANCHORS, link=link).score
    got = softmap.score_against_anchors(x[:1000], ANCHORS, link=link).score
    bound = 2e-5 if dtype == "float32" else 1e-9
    torch.testing.assert_close(got.double().cpu(), torch.from_numpy(want), rtol=bound, atol=bound)
    anchors = torch.from_numpy(ANCHORS).to(DEVICE)  # from the host it could not be captured
    candidates = {"softmap": lambda x: softmap.score_against_anchors(x, anchors, link=link)}
    n_bytes = x.nbytes + count * (6 * kind.itemsize + 2)
    times = compare(candidates, [(x,)])
    goal = GOAL[dtype, 6] if link == "logit" else None
    group = f"score_against_anchors {link} {dtype} {count}"
    report(benchmark, group, times, n_bytes, per_second=(count, "fits", goal))
