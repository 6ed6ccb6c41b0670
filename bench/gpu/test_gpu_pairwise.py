"""The pairwise family on a GPU against torch and a fill of the same bytes."""

import pytest

import softmap
from gpu_timing import DEVICE, DRY_RUN, compare, make_sets, report, torch

F = {"logit": torch.sigmoid, "probit": torch.special.ndtr}


@pytest.mark.parametrize("link", F)
@pytest.mark.parametrize(
    ("n_problems", "n", "dtype"),
    [(1, 32_768, "float32"), (1, 16_384, "float64"), (200_000, 16, "float32")],
)
def test_preference_matrix(benchmark, n_problems, n, dtype, link):
    """Nothing but the result moves: the ceiling is that of a fill."""
    if DRY_RUN:
        n_problems, n = min(n_problems, 3), min(n, 20)
    kind = getattr(torch, dtype)
    n_bytes = n_problems * n * n * kind.itemsize

    def make():
        return (
            torch.randn((n_problems, n), device=DEVICE, dtype=kind),
            torch.empty((n_problems, n, n), device=DEVICE, dtype=kind),
        )

    def rival(s, _):
        return F[link](s[:, :, None] - s[:, None, :])

    sets = make_sets(make, n_bytes)
    candidates = {
        "softmap": lambda s, out: softmap.preference_matrix(s, link=link, out=out),
        "torch": rival,
        "fill": lambda s, out: out.fill_(0.5),
    }
    s, out = sets[0][0][:1, :64], sets[0][1].new_empty((1, min(n, 64), min(n, 64)))
    torch.testing.assert_close(candidates["softmap"](s, out), rival(s, out), rtol=1e-4, atol=1e-6)
    times = compare(candidates, sets)
    group = f"preference_matrix {link} {dtype} {n_problems} x {n}"
    target = 0.9 if dtype == "float32" and n_problems == 1 else None
    report(benchmark, group, times, n_bytes, limit="fill", target=target)


@pytest.mark.parametrize("link", F)
def test_preference(benchmark, link):
    n = 1000 if DRY_RUN else 1 << 26
    sets = make_sets(lambda: tuple(torch.randn(n, device=DEVICE) for _ in range(2)), 12 * n)
    candidates = {
        "softmap": lambda a, b: softmap.preference(a, b, link=link),
        "torch": lambda a, b: F[link](a - b),
    }
    want = candidates["torch"](*sets[0])
    torch.testing.assert_close(candidates["softmap"](*sets[0]), want, rtol=1e-4, atol=1e-6)
    report(benchmark, f"preference {link} {n}", compare(candidates, sets), 12 * n)


@pytest.mark.parametrize("link", F)
@pytest.mark.parametrize(("n_problems", "n"), [(500_000, 6), (1, 8192)])
def test_log_likelihood_with_gradient(benchmark, n_problems, n, link):
    if DRY_RUN:
        n_problems, n = min(n_problems, 5), min(n, 20)
    n_bytes = n_problems * n * (n + 2) * 4
    log_f = {"logit": torch.nn.functional.logsigmoid, "probit": torch.special.log_ndtr}[link]

    def make():
        scores = torch.randn((n_problems, n), device=DEVICE)
        return scores, torch.randint(0, 9, (n_problems, n, n), device=DEVICE).float()

    def rival(s, wins):
        s = s.detach().requires_grad_()
        terms = wins * log_f(s[:, :, None] - s[:, None, :])
        value = terms.sum((1, 2)) - terms.diagonal(dim1=1, dim2=2).sum(1)
        (gradient,) = torch.autograd.grad(value.sum(), s)
        return value.detach(), gradient

    sets = make_sets(make, n_bytes)
    candidates = {
        "softmap": lambda s, w: softmap.log_likelihood(s, w, link=link, gradient=True),
        "torch": rival,
    }
    want, _ = rival(*sets[0])
    torch.testing.assert_close(candidates["softmap"](*sets[0]).value, want, rtol=1e-3, atol=1e-3)
    group = f"log_likelihood, gradient {link} {n_problems} x {n}"
    times = compare(candidates, sets, eager=("torch",))
    report(benchmark, group, times, n_bytes)
