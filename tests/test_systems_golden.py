"""Worked examples of the systems, computed apart from this package, with 50 digits where needed.

And the traps of the official programs that no other test shows: each test emulates one.
"""

import math

import numpy as np
import pytest

import softmap
from softmap.systems import (
    adaptive_compute,
    compare2score,
    deqa,
    deqa_losses,
    dexml,
    energy,
    ordinal,
    ptrue,
    qalign,
    realqa,
    sampling,
    specdec,
    tempnet,
    text_tests,
    z_loss,
    zpe,
)
from systems_cases import FIVE_LEVELS, VOCABULARY

THREE = [[12.5, 18.0, 21.25, 16.5, 9.0], [3.0, 9.5, 14.0, 24.5, 19.0], [30.0, 22.0, 12.0, 5.0, 1.0]]
DIGITS = [
    [0.1, -1.0, 0.3, 1.2, 2.0, 2.5, 4.0, 6.5, 5.75, 1.0],
    [2.0, 3.5, 3.25, 1.0, 0.5, 0.0, -0.5, -1.0, -1.5, -2.0],
    [1.0, 1.0, 1.0, 1.0, 1.0, 2.0, 1.0, 1.0, 1.0, 1.0],
]
LABEL = [0.017124088923230047, 0.45319014883670883, 0.506219732285469, 0.024140196865258857, 0.0]
SIX = [2.0, 1.0, 0.5, 0.0, -1.0, -3.0]
CUMULATIVE = [[1.5, 0.2, -1.0], [0.1, 0.3, -0.2]]
SPREAD = [4.0, 1.0, 3.0, -2.0, 0.0]
TAU = [2.0, 0.5, -1.0, 1.0, 0.0]
IMAGES = [
    [[0.0, 0.25, -0.25], [-1.0, -0.5, -1.0], [0.0, 1.25, -0.5], [-0.5, 0.5, 0.25]],
    [[0.0, -1.0, 0.0], [0.75, -1.25, -0.5], [-2.0, -1.25, -1.75], [-0.25, -1.25, 0.25]],
    [[0.25, -0.25, -2.5], [-0.5, 0.0, 0.0], [-1.5, -0.5, -1.0], [-0.75, 1.0, -0.75]],
]
RANDOM = [
    [[0.5, 1.5, 0.0], [0.5, 0.5, 0.5], [-0.75, 0.5, 1.75], [-1.0, 1.25, 0.5]],
    [[-0.25, 2.5, 1.25], [-0.75, 0.5, 1.0], [0.25, 1.25, 0.5], [1.25, 2.0, -0.25]],
    [[0.75, 0.0, 0.75], [-0.75, 0.0, 0.25], [1.5, 1.75, -0.75], [-0.25, 1.25, -1.5]],
    [[0.0, 0.5, 1.75], [1.25, 0.25, 0.25], [0.25, 2.0, 0.0], [0.25, 0.75, 0.5]],
    [[0.25, -0.5, 0.5], [0.0, 1.75, 1.25], [0.5, 1.25, 0.25], [1.5, 0.5, 1.0]],
]
ZPE = {
    "none": [1 / 6, 1 / 12, -1 / 6, 7 / 12],
    "test": [0.5833333333333334, 0.5555555555555557, 0.27777777777777773, 0.5555555555555555],
    "pretrain": [-1 / 6, -0.3, -1.1833333333333333, 0.08333333333333337],
    "pretrain_star": [-0.4666666666666666, -0.35, -0.85, 0.06666666666666661],
    "both": [0.04444444444444443, 0.11111111111111112, -0.4527777777777778, 0.3055555555555556],
}
TEXT_A = [[2.0, 0.0, -1.0, 0.5], [0.1, 0.2, 0.3, 0.4], [3.0, -2.0, 0.0, 1.0], [1.0] * 4]
TEXT_B = [[1.5, 0.5, -1.0, 0.0], [0.0, 0.0, 1.0, 0.4], [2.0, 0.0, 0.0, 1.5], [0.0] * 4]


def fidelity():
    p, t = (
        softmap.preference(a, b, link="probit", variance_a=v, variance_b=w)
        for a, b, v, w in [(3.4, 2.9, 0.36, 0.49), (3.6, 2.7, 0.25, 0.3)]
    )
    return [p, t]


EXAMPLES = {
    "Q-Align": lambda: (qalign.score(FIVE_LEVELS), 0.5623132708651923),
    "DeQA-Score": lambda: (
        [(r := deqa.score(FIVE_LEVELS)).score, r.variance],
        [3.2492530834607694, 0.23178772534646358],
    ),
    "Compare2Score, T = 100": lambda: (
        compare2score.preference(THREE),
        [0.4959006371631674, 0.5232152166727972, 0.46221001931902195],
    ),
    "Compare2Score, T = 1": lambda: (
        compare2score.preference(THREE, temperature=1.0),
        [0.4927381204121792, 0.7510104976431868, 8.384515444183307e-05],
    ),
    "RealQA": lambda: (
        [(r := realqa.score(DIGITS)).value, r.variance, r.residual, *r.digits],
        [
            *(7.378904394620157, 0.5939995641505545, 2.939265572257551),
            *(7.177456885653845, 1.5571434609584511, 4.5733162870467075),
        ],
    ),
    "P(True)": lambda: (
        [(r := ptrue.p_true([4.5, 3.25, 2.0, -1.0], 0, 1)).probability, r.mass],
        [0.7772998611746912, 0.937223544031531],
    ),
    "P(IK)": lambda: (ptrue.p_ik([-2, 0, 1.75]), [0.11920292202211756, 0.5, 0.8519528019683106]),
    "best of n": lambda: (
        [(r := adaptive_compute.best_of_n([0.62, 0.91, 0.35], threshold=0.9)).best, r.drawn],
        [1, 2],
    ),
    "DeQA soft label near the end": lambda: (
        deqa.soft_labels(98.0, 9.0, low=1.0, high=100.0).probabilities,
        [
            *(0.94399338529188084175, 0.04360545099918914836, 0.0041342954482389948303),
            *(0.0041334341303503901803, 0.0041334341303406248799),
        ],
    ),
    "options of a question": lambda: (
        softmap.softmax([1.25, 0.5, 2.75, 2.5]),
        [0.10588286712722852, 0.05001552493922384, 0.47453408834015764, 0.36956751959339],
    ),
    **{
        f"ZPE, {name}": lambda name=name, want=want: (
            zpe.weights(IMAGES, RANDOM, normalization=name),
            want,
        )
        for name, want in ZPE.items()
    },
    "ZPE, aggregate": lambda: (
        zpe.aggregate(IMAGES, zpe.weights(IMAGES, RANDOM))[0],
        [-0.06597222222222222, -0.1144097222222222, 0.04513888888888889],
    ),
    "ZPE, select": lambda: (
        zpe.select(zpe.weights(IMAGES, RANDOM), threshold=0.5),
        [False, False, False, True],
    ),
    "AbeT": lambda: (
        energy.abet([[0.8, 0.2]] * 2, [0.5, 0.1]),
        [-1.8632824673380313, -8.00247568513773],
    ),
    "energy": lambda: (
        energy.energy([[0.8, 0.2]] * 2, temperature=[0.5, 0.1]),
        [-0.9316412336690156, -0.8002475685137731],
    ),
    **{
        f"typical, {mass}": lambda mass=mass, n=n: (
            np.isfinite(sampling.truncated(SIX, "typical", mass)),
            [mass > 0.2, True, *[k < n for k in range(2, 6)]],
        )
        for mass, n in [(0.2, 2), (0.5, 2), (0.9, 4), (0.95, 4)]
    },
    **{
        rule: lambda rule=rule, amount=amount, n=n: (
            np.isfinite(sampling.truncated(SIX, rule, amount)),
            [k < n for k in range(6)],
        )
        for rule, amount, n in [
            ("top_p", 0.9, 4), ("top_k", 2, 2), ("min_p", 0.1, 4), ("epsilon", 0.05, 4),
        ]
    },
    "cross-entropy rate": lambda: (
        text_tests.cross_entropy_rate(TEXT_A, TEXT_B, mask=[1, 1, 1, 0]),
        1.29821245719255,
    ),
    "SpecDec++, length": lambda: (
        specdec.draft_length([0.95, 0.9, 0.85, 0.9], threshold=0.3),
        3,
    ),
    "SpecDec++, acceptance": lambda: (
        [*(r := specdec.acceptance([0.5, 0.3, 0.2], [0.6, 0.1, 0.3])).probability, r.rate],
        [0.8333333333333334, 1.0, 0.6666666666666667, 0.8],
    ),
    "decoupled softmax": lambda: (
        [
            (r := dexml.decoupled_softmax(SPREAD, [1, 0, 1, 0, 0], temperature=1.0)).loss,
            *r.log_probabilities[[0, 2]],
        ],
        [0.12185864176121108, -0.06820192090570742, -0.17551536261671474],
    ),
    "soft top-k": lambda: (
        [(r := dexml.soft_top_k(SPREAD, k=2, temperature=1.0)).shift, *r.probabilities],
        [
            *(-2.000682583698336, 0.9819896616137812, 0.11905966269832513),
            *(0.8806536696294205, 0.00033489278696509627, 0.017962113271508078),
        ],
    ),
    "TempNet, temperature": lambda: (tempnet.temperature(TAU, 0.2), 1.5036592737489796),
    "TempNet, loss": lambda: (
        tempnet.robust_loss([2.0, 0.5, -1.0], 1, 0.7, rho=9.0),
        7.117194275315822,
    ),
    "Z-loss": lambda: (z_loss.loss([1.0, -0.5, 2.0, 0.0], 2), 0.21415297667211441),
    "CORAL": lambda: (
        ordinal.coral(CUMULATIVE)[1],
        [0.47502081252106, -0.04946332933271902, 0.12427651412413693, 0.4501660026875221],
    ),
    "CORN": lambda: (
        ordinal.corn(CUMULATIVE)[1],
        [0.47502081252106, 0.22340882174979793, 0.16581363965984008, 0.135756726069302],
    ),
    "ordinal cross-entropy": lambda: (
        ordinal.cross_entropy(CUMULATIVE, [2, 1]),
        [1.1128138348825671, 2.0968907739236897],
    ),
    "DeQA soft label": lambda: (
        deqa.soft_labels(62.0, 14.0, low=1, high=100).probabilities,
        LABEL,
    ),
    "DeQA, Thurstone": lambda: (fidelity(), [0.7062030749235325, 0.8875420558844593]),
    "DeQA KL": lambda: (
        deqa_losses.kl_loss(VOCABULARY, range(5), LABEL),
        0.1689866805602125,
    ),
    "normal gaps": lambda: (
        [(r := deqa_losses.normal_gaps(3.4, 0.6, 3.6, 0.5)).kl, r.wasserstein],
        [0.1176784432060455, 0.22360679774997913],
    ),
}  # fmt: skip


# By the official arithmetic, which has epsilons of 1e-9 and 1e-8.
OFFICIAL = {"DeQA soft label", "DeQA, Thurstone"}


@pytest.mark.parametrize("name", EXAMPLES)
def test_worked_example(backend, name):
    got, want = EXAMPLES[name]()
    rtol, atol = (1e-8, 1e-9) if name in OFFICIAL else (2e-13, 1e-16)
    np.testing.assert_allclose(np.asarray(got, np.float64), want, rtol=rtol, atol=atol)


def test_fidelity_loss_is_the_official_one_but_for_its_epsilon():
    assert deqa_losses.fidelity_loss(*fidelity()) == pytest.approx(0.026533938637794796, abs=6e-8)


def test_official_midpoint_divergence_is_no_jensen_shannon():
    gaps = deqa_losses.normal_gaps(3.4, 0.6, 3.6, 0.5)
    assert gaps.midpoint_divergence == pytest.approx(0.02465806679975683, rel=2e-6)
    assert abs(gaps.midpoint_divergence - 0.023567929597354882) > 1e-3


def test_prior_sd_is_the_standard_deviation_that_choix_is_not():
    """choix documents a prior of variance 1 / alpha and subtracts alpha s^2, that of 1 / (2 alpha).

    Two items, 3 wins against 1: at the maximum the derivative of the likelihood is that of the
    penalty, from which the variance can be read.
    """
    for sd in (0.5, 1.0, 3.0):
        s = softmap.fit_many([[0, 3], [1, 0]], prior_sd=sd).scores
        derivative = 4 * (0.75 - 1 / (1 + math.exp(s[1] - s[0])))
        assert derivative == pytest.approx(s[0] / sd**2, rel=1e-8)  # of s^2 / (2 sd^2)
        alpha = 1 / sd**2  # as documented there
        assert derivative != pytest.approx(2 * alpha * s[0], rel=0.1)  # of alpha s^2


def test_two_passes_take_masks():
    """The published range reduction makes a NaN of -inf - (-inf); here it is a mask."""
    with np.errstate(invalid="ignore"):
        x = np.array([-np.inf])
        assert np.isnan(x - np.rint(x / np.log(2)) * np.log(2))
    p = softmap.softmax([-np.inf, 0.0, 0.0], -1)
    np.testing.assert_array_equal(p, [0, 0.5, 0.5])
