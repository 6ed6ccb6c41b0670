"""Worked examples of the systems, computed apart from this package, with 50 digits where needed.

And the traps of the official programs that no other test shows: each test emulates one.
"""

# budget: over 400 lines, most of which are the numbers
import math

import numpy as np
import pytest

import softmap
from softmap.systems import (
    adaptive_compute,
    calibration,
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
PROMPTS_OF_BOTH = {
    "weights of each image": [
        [0.016666666666666635, -0.5083333333333333, 0.6583333333333333, 0.26666666666666666],
        [0.033333333333333326, 0.85, -1.3833333333333333, 0.26666666666666666],
        [0.08333333333333334, -0.008333333333333304, -0.6333333333333333, 0.3833333333333334],
    ],
    "aggregate": [
        [-0.06597222222222222, -0.1144097222222222, 0.04513888888888889],
        [0.22812500000000002, 0.00017361111111109662, 0.20329861111111108],
        [0.10138888888888888, 0.13020833333333334, 0.028124999999999997],
    ],
    "aggregate by softmax": [
        [-0.10804380606393951, 0.07074459245668696, -0.08165297522116492],
        [-0.04649219638378305, -0.296778821113268, -0.0801313354423515],
        [-0.13649600449791832, 0.04680276807379279, -0.25669520448747063],
    ],
}
TEXT_A = [[2.0, 0.0, -1.0, 0.5], [0.1, 0.2, 0.3, 0.4], [3.0, -2.0, 0.0, 1.0], [1.0] * 4]
TEXT_B = [[1.5, 0.5, -1.0, 0.0], [0.0, 0.0, 1.0, 0.4], [2.0, 0.0, 0.0, 1.5], [0.0] * 4]


FIVE_PROBABILITIES = [
    0.017877779619957117, 0.21779594225091523, 0.7601825331992479, 0.003989071829699367,
    0.00015467310018043082,
]  # fmt: skip
COMPARED = {
    100: [
        [0.19400903703867348, 0.20497842724544083, 0.21174966270788628, 0.20192669604054148,
         0.18733617696745794],
        [0.17867321286836566, 0.19067273152819425, 0.1994489893033864, 0.2215301086439928,
         0.2096749576560609],
        [0.2333476736435616, 0.21540705193166565, 0.1949083606965862, 0.1817313509614964,
         0.17460556276669015],
    ],
    1: [
        [0.00015126285452155428, 0.03701280015268078, 0.9545726972247727, 0.00825867202560949,
         4.567742415541759e-06],
        [4.580209583033797e-10, 3.046488081744535e-07, 2.7423611765987266e-05, 0.9959022464252121,
         0.00407002485619276],
        [0.9996646346356343, 0.0003353501253560742, 1.522487213700626e-08, 1.3883286329609455e-11,
         2.542812590020266e-13],
    ],
}  # fmt: skip
OPINIONS = [
    [8.6, 23.7, 80.1, 58.2, 9.4, 43.3, 47.9, 16.0, 73.5, 11.4,
     39.1, 51.7, 43.1, 58.7, 73.8, 95.6, 28.4, 64.9, 69.6, 29.3],
    [1.02, 11.71, 4.28, 4.45, 10.81, 7.44, 6.18, 9.51, 1.33, 8.78,
     5.12, 2.0, 8.27, 11.25, 3.28, 7.93, 4.28, 9.16, 8.94, 3.41],
]  # fmt: skip
KEPT = {
    0.2: [0.0, 1.0, 0.0, 0.0, 0.0, 0.0],
    0.5: [0.7310585786300049, 0.2689414213699951, 0.0, 0.0, 0.0, 0.0],
    0.9: [0.5792585299413737, 0.21309730428862375, 0.12925004855316274, 0.07839411721683971, 0, 0],
}
ANSWERS = [[0.0, z] for z in (2.0, -1.0, 0.5, 3.0, -0.5, 1.0)]  # of yes against no
JACOBIAN = [
    [0.03282524687976549, -0.015102805869164355, -0.015134243422102685, -4.820663565374757e-05,
     -0.0025399909528447053],
    [-0.015102805869164355, 0.12020357529828225, -0.08975178009841236, -0.00028588355835222287,
     -0.0150631057723533],
    [-0.015134243422102685, -0.08975178009841236, 0.12026696285235375, -0.0002864786450915847,
     -0.01509446068674711],
    [-4.820663565374757e-05, -0.00028588355835222287, -0.0002864786450915847,
     0.0006686487560396296, -4.80799169420745e-05],
    [-0.0025399909528447053, -0.0150631057723533, -0.01509446068674711, -4.80799169420745e-05,
     0.03274563732888719],
]  # fmt: skip


def of_both(which):
    each = zpe.weights(IMAGES, RANDOM, per_image=True)
    weights = zpe.weights(IMAGES, RANDOM)
    return {
        "weights of each image": lambda: each,
        "aggregate": lambda: zpe.aggregate(IMAGES, weights),
        "aggregate by softmax": lambda: zpe.aggregate(IMAGES, softmap.softmax(weights)),
    }[which]()


def documented_jacobian(alpha=2.0):
    """As the docstring of soft_top_k has it."""
    q = dexml.soft_top_k(SPREAD, k=2, alpha=alpha, temperature=1.0).probabilities
    w = q * (1 - q)
    return alpha * (np.diag(w) - np.outer(w, w) / w.sum())


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

# What else they give: every number that a function of the package, or its docstring, has too.
EXAMPLES |= {
    "five levels": lambda: (
        [*(r := softmap.level_scores(FIVE_LEVELS, None, [1, 0.75, 0.5, 0.25, 0])).probabilities,
         r.variance, deqa.score(FIVE_LEVELS).variance**0.5],
        [*FIVE_PROBABILITIES, 0.014486732834153974, 0.4814433770927414],
    ),
    **{
        f"Compare2Score, T = {t}, probabilities": lambda t=t, want=want: (
            softmap.softmax(THREE, -1, temperature=t),
            want,
        )
        for t, want in COMPARED.items()
    },
    "Compare2Score, anchors": lambda: (
        compare2score.select_anchors(*OPINIONS),
        [0, 19, 11, 8, 2],
    ),
    "P(True) in the vocabulary": lambda: (
        (r := ptrue.p_true([4.5, 3.25, 2.0, -1.0], 0, 1)).probability * r.mass,
        0.7285037306653611,
    ),
    "option and margin": lambda: (
        [(r := text_tests.answer(np.tile([1.25, 0.5, 2.75, 2.5], (4, 1, 1)), [[0], [1], [2], [3]]))
         .choice, np.exp(-r.loss[2]) - np.exp(-r.loss[3])],
        [2, 0.10496656874676766],
    ),
    **{f"ZPE, {k}": lambda k=k, v=v: (of_both(k), v) for k, v in PROMPTS_OF_BOTH.items()},
    "ZPE, deviations": lambda: (
        [
            zpe.select(zpe.weights(IMAGES, RANDOM), threshold=t + step)[k]
            for k, t in enumerate(
                [-0.2553191489361703, 0.25531914893617025, -4.0638297872340425, 1.7446808510638299]
            )
            for step in (-1e-12, 1e-12)
        ],
        [True, False] * 4,
    ),
    "ZPE, prediction": lambda: (of_both("aggregate").argmax(axis=-1), [2, 0, 1]),
    "DeQA level mass": lambda: (deqa.score(VOCABULARY, range(5)).mass, 0.9999896198966939),
    **{
        f"typical, {mass}, probabilities": lambda mass=mass, want=want: (
            softmap.softmax(sampling.truncated(SIX, "typical", mass)),
            want,
        )
        for mass, want in KEPT.items()
    },
    "cross-entropy of each token": lambda: (
        text_tests.cross_entropy_rate(np.array(TEXT_A)[:, None], np.array(TEXT_B)[:, None]),
        [1.1293398210060233, 1.3668213496100998, 1.398476200961527, 1.3862943611198906],
    ),
    "divergence of two texts": lambda: (
        text_tests.cross_entropy_rate(TEXT_A[:3], TEXT_B[:3])
        - text_tests.statistics(TEXT_B[:3], [0] * 3).entropy,
        0.15510109160415597,
    ),
    "SpecDec++, probability of a rejection": lambda: (
        [
            specdec.draft_length([0.95, 0.9, 0.85, 0.9], threshold=p * (1 + step))
            for p in (0.050000000000000044, 0.14500000000000002, 0.27325, 0.3459249999999999)
            for step in (-1e-12, 1e-12)
        ],
        [0, 1, 1, 2, 2, 3, 3, 4],
    ),
    "SpecDec++, residual": lambda: (
        specdec.acceptance([0.5, 0.3, 0.2], [0.6, 0.1, 0.3]).residual,
        [0.0, 1.0, 0.0],
    ),
    "soft top-k, loss of two labels": lambda: (
        -np.log(dexml.soft_top_k(SPREAD, k=2, temperature=1.0).probabilities[[0, 2]]).mean(),
        0.07263266971412148,
    ),
    "soft top-k, derivative": lambda: (documented_jacobian(), JACOBIAN),
    "TempNet, at its temperature": lambda: (
        [
            tempnet.robust_loss(TAU, 0, (tau := tempnet.temperature(TAU, 0.2)), rho=0.2) + TAU[0],
            np.log(5) - softmap.row_statistics(TAU, temperature=tau).entropy,
            *softmap.softmax(TAU, temperature=tau),
        ],
        [1.122255320883175, 0.2, 0.43792884604807225, 0.161497558404917, 0.05955639050981027,
         0.22520524009438206, 0.11581196494281841],
    ),
    "Z-loss, standardised outputs": lambda: (
        [
            z_loss.loss([1.0, -0.5, 2.0, 0.0], k, b=z)
            for k, z in enumerate(
                [0.39056673294247163, -1.171700198827415, 1.4320780207890627, -0.6509445549041194]
            )
        ],
        [math.log(2)] * 4,
    ),
    "CORAL, first row": lambda: (
        ordinal.coral(CUMULATIVE[0]),
        [0.18242552380635635, 0.2677404788811657, 0.28089257594248285, 0.2689414213699951],
    ),
    "CORN, first row": lambda: (
        ordinal.corn(CUMULATIVE[0]),
        [0.18242552380635635, 0.36804423384743723, 0.32863294002081933, 0.12089730232538712],
    ),
    "CORAL, expected level": lambda: (
        ordinal.coral(CUMULATIVE) @ np.arange(4),
        [1.6363498948761168, 1.5495877069781212],
    ),
    "temperature scaling": lambda: (
        calibration.temperature(ANSWERS, [1, 0, 0, 1, 1, 1]),
        0.7900391678903296,
    ),
    "temperature scaling, its loss": lambda: (
        -softmap.log_softmax(
            ANSWERS, -1, temperature=calibration.temperature(ANSWERS, [1, 0, 0, 1, 1, 1])
        )[range(6), [1, 0, 0, 1, 1, 1]].mean(),
        0.4522132227265708,
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


def test_two_levels_are_without_the_official_epsilon():
    """Official code widens the interval by 1e-8 on both sides; at a level it has 1e-8 beside it."""
    official = [
        [0.0, 0.4646464653535352, 0.5353535346464647, 0.0, 0.0],
        [0.9191919108080805, 0.0808080891919195, 0.0, 0.0, 0.0],
    ]
    labels = deqa.soft_labels([62.0, 98.0], [14.0, 9.0], low=1, high=100, max_shift=0.0)
    np.testing.assert_allclose(labels.probabilities, official, rtol=0, atol=1e-8)
    assert labels.probabilities @ range(5) == pytest.approx([5 - 343 / 99, 8 / 99], rel=1e-14)
    assert (labels.probabilities != official).any(axis=-1).all()
    left, right = 4 - 1e-8, 5 + 1e-8
    assert (4.0 - left) / (right - left) > 9e-9
    assert deqa.soft_labels(4.0, 0.1, low=1, high=5).probabilities.tolist() == [0, 1, 0, 0, 0]


def test_fidelity_loss_has_the_official_derivative():
    """In the score of the first image, at the worked example."""

    def loss(score):
        p = softmap.preference(score, 2.9, link="probit", variance_a=0.36, variance_b=0.49)
        return deqa_losses.fidelity_loss(p, fidelity()[1])

    derivative = (loss(3.4 + 1e-4) - loss(3.4 - 1e-4)) / 2e-4
    assert derivative == pytest.approx(-0.09382776734365966, abs=2e-7)


def test_official_midpoint_divergence_is_no_jensen_shannon():
    gaps = deqa_losses.normal_gaps(3.4, 0.6, 3.6, 0.5)
    assert gaps.midpoint_divergence == pytest.approx(0.02465806679975683, rel=2e-6)
    assert abs(gaps.midpoint_divergence - 0.023567929597354882) > 1e-3
    assert gaps.kl == pytest.approx(0.11767841053937929, rel=3e-7)  # official, with 1e-8 in it
    assert abs(gaps.kl - 0.11767841053937929) > 1e-8


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
