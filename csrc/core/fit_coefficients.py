"""Fit the polynomials of core/: `python csrc/core/fit_coefficients.py` prints them as C++ arrays.

Each is a Chebyshev interpolation computed with 60 digits, turned into powers and rounded once.
`tests/test_core.py` runs the fits again and compares them with the constants in the headers.
"""

from collections.abc import Callable

import mpmath as mp

mp.mp.dps = 60


def fit(f: Callable[[mp.mpf], mp.mpf], low: float, high: float, degree: int) -> list[mp.mpf]:
    """Interpolate `f` at the Chebyshev nodes of [low, high]; coefficients of x^0, x^1, ..."""
    n = degree + 1
    middle, half = (mp.mpf(low) + high) / 2, (mp.mpf(high) - low) / 2
    angles = [mp.pi * (2 * k + 1) / (2 * n) for k in range(n)]
    values = [f(middle + half * mp.cos(a)) for a in angles]
    series = [
        mp.fsum(v * mp.cos(j * a) for v, a in zip(values, angles, strict=True)) * 2 / n
        for j in range(n)
    ]
    series[0] /= 2
    # T_0, T_1, ... as polynomials in x, through u = (x - middle) / half.
    u = [-middle / half, 1 / half]
    previous, current = [mp.mpf(1)], u
    total = [mp.mpf(0)] * n
    for c in series:
        for k, t in enumerate(previous):
            total[k] += c * t
        following = [mp.mpf(0)] * (len(current) + 1)
        for k, t in enumerate(current):
            following[k] += 2 * u[0] * t
            following[k + 1] += 2 * u[1] * t
        for k, t in enumerate(previous):
            following[k] -= t
        previous, current = current, following
    return total


def exp_remainder(t: mp.mpf) -> mp.mpf:
    """(exp(t) - 1 - t) / t^2, by its series near 0."""
    if abs(t) < mp.mpf("1e-8"):
        return mp.fsum(t**k / mp.factorial(k + 2) for k in range(6))
    return (mp.expm1(t) - t) / t**2


def log_remainder(z: mp.mpf) -> mp.mpf:
    """(2 atanh(s) - 2 s) / s^3 at z = s^2."""
    return mp.fsum(2 * z**k / (2 * k + 3) for k in range(60))


def upper_tail(z: mp.mpf) -> mp.mpf:
    """exp(z^2/2) (1 - Phi(z)); for large z by Laplace's continued fraction."""
    if z < 30:
        return mp.exp(z * z / 2) * mp.erfc(z / mp.sqrt(2)) / 2
    return 1 / mp.sqrt(2 * mp.pi) / (z + mills_excess(z))


def mills_excess(z: mp.mpf) -> mp.mpf:
    """phi(z) / (1 - Phi(z)) - z."""
    if z < 30:
        return 1 / mp.sqrt(2 * mp.pi) / upper_tail(z) - z
    fraction = mp.mpf(0)
    for n in range(200, 0, -1):
        fraction = n / (z + fraction)
    return fraction


def scaled(f: Callable[[mp.mpf], mp.mpf]) -> Callable[[mp.mpf], mp.mpf]:
    """(z + 4) f(z) as a function of t = (z - 4) / (z + 4)."""
    return lambda t: 8 / (1 - t) * f(4 * (1 + t) / (1 - t))


def fit_quotient(
    f: Callable[[mp.mpf], mp.mpf], high: float, scale: float, degree: int
) -> tuple[list[mp.mpf], list[mp.mpf]]:
    """Interpolate `f` on [0, high] by a quotient of polynomials, the lower one of a degree more.

    It is exact at 0, and at the Chebyshev nodes in t = z / (z + scale).
    """
    n, end = 2 * degree + 1, mp.mpf(high) / (mp.mpf(high) + scale)
    nodes = [end * (1 - mp.cos(mp.pi * (2 * k + 1) / (2 * n))) / 2 for k in range(n)]
    system, right = mp.matrix(n, n), mp.matrix(n, 1)
    for k, t in enumerate(nodes):
        z = scale * t / (1 - t)
        value = f(z)
        for j in range(1, degree + 1):
            system[k, j - 1] = z**j
        for j in range(1, degree + 2):
            system[k, degree + j - 1] = -value * z**j
        right[k] = value - f(mp.mpf(0))
    x = list(mp.lu_solve(system, right))
    return [f(mp.mpf(0)), *x[:degree]], [mp.mpf(1), *x[degree:]]


TABLES = {
    "kExp<double>": (exp_remainder, -0.3475, 0.3475, 10),
    "kExp<float>": (exp_remainder, -0.3475, 0.3475, 5),
    "kExpBy16<double>": (exp_remainder, -0.0218, 0.0218, 4),
    "kExpBy16<float>": (exp_remainder, -0.0226, 0.0226, 1),
    "kExpBy8<float>": (exp_remainder, -0.0443, 0.0443, 2),
    "kLog<double>": (log_remainder, 0.0, 0.02945, 6),
    "kLog<float>": (log_remainder, 0.0, 0.02945, 2),
    "kUpperTail<double>": (scaled(upper_tail), -1.0, 1.0, 24),
    "kUpperTail<float>": (scaled(upper_tail), -1.0, 1.0, 11),
    "kMillsExcess<double>": (scaled(mills_excess), -1.0, 1.0, 29),
    "kMillsExcess<float>": (scaled(mills_excess), -1.0, 1.0, 14),
}

# Over and under the line.
QUOTIENTS = {
    ("kNearUpperTail<double>", "kNearUpperTailUnder<double>"): (upper_tail, 40.0, 3.0, 9),
    ("kNearUpperTail<float>", "kNearUpperTailUnder<float>"): (upper_tail, 15.0, 2.0, 4),
}


def coefficients(name: str) -> list[mp.mpf]:
    """Those of one table."""
    if name in TABLES:
        return fit(*TABLES[name])
    both = next(names for names in QUOTIENTS if name in names)
    return fit_quotient(*QUOTIENTS[both])[both.index(name)]


def literal(c: mp.mpf, name: str) -> str:
    """Hexadecimal literal of the nearest number of the table's type."""
    if "float" in name:
        import numpy as np

        return float(np.float32(mp.nstr(c, 30))).hex() + "f"
    return float(c).hex()


if __name__ == "__main__":
    for name in [*TABLES, *(name for both in QUOTIENTS for name in both)]:
        print(f"{name} = {{" + ", ".join(literal(c, name) for c in coefficients(name)) + "};")
