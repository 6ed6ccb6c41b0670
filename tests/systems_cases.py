"""One call of every recipe of softmap.systems, and what the tests of single ones share."""

import mpmath
import numpy as np

from ops.fit import ANCHORS, PREFERENCES

FIVE = np.array([[12.5, 18.0, 21.25, 16.5, 9.0], [3.0, 9.5, 14.0, 24.5, 19.0]])
ROWS = np.array([[9.5, 12.0, 13.25, 8.0, 4.75, 2.0, -1.0], [0.5, 0.25, -1.0, 3.0, 2.0, 0.0, 1.0]])
TARGET = np.array([2, 5])
OPINIONS = [np.array([50.0, 40.0, 30.0]), np.array([3.0, 4.0, 0.5])]
PROMPTS = np.arange(24.0).reshape(2, 3, 4) ** 1.5 % 7
TEXT = np.sin(np.arange(40.0)).reshape(2, 4, 5) * 3
WORDS = np.array([[0, 3, 4, -100], [2, 2, -100, -100]])
CHANCES = np.array([0.9, 0.25, 0.5, 0.75])

CASES = {
    "adaptive_compute.best_of_n": ([np.array([[0.6, 0.9, 0.95], [0.5, 0.5, 0.1]])], {}),
    "adaptive_compute.keep": ([np.array([[0.6, 0.9, 0.95], [0.5, 0.5, 0.1]])], {"fraction": 0.5}),
    "adaptive_compute.score": ([ROWS, 3], {}),
    "adaptive_compute.temperature": ([5], {}),
    "calibration.temperature": ([FIVE, np.array([2, 1])], {}),
    "compare2score.comparison_matrix": ([PREFERENCES, ANCHORS], {}),
    "compare2score.levels": ([*OPINIONS, *OPINIONS[::-1]], {}),
    "compare2score.preference": ([FIVE], {"temperature": 2.0}),
    "compare2score.score": ([FIVE[:, None] + np.linspace(0, 30, 25).reshape(5, 5), ANCHORS], {}),
    "compare2score.select_anchors": (OPINIONS, {"n_intervals": 2}),
    "data_diet.dynamics": ([ROWS.reshape(2, 1, 7), np.array([3])], {}),
    "data_diet.el2n": ([ROWS, TARGET], {}),
    "deqa.score": ([ROWS, [0, 1, 2, 3, 4]], {"open_set": True}),
    "deqa.soft_labels": (OPINIONS, {"low": 0.0, "high": 100.0}),
    "deqa.text_level": (OPINIONS[:1], {"low": 0.0, "high": 100.0}),
    "deqa_losses.fidelity_loss": ([CHANCES, CHANCES[::-1].copy()], {}),
    "deqa_losses.kl_loss": ([ROWS, [0, 1, 2, 3], np.array([[0.5, 0.5, 0, 0], [0, 0, 0, 1]])], {}),
    "deqa_losses.normal_gaps": ([CHANCES, CHANCES, CHANCES[::-1].copy(), np.array(0.5)], {}),
    "dexml.decoupled_softmax": ([ROWS, ROWS > 2], {"temperature": 1.0}),
    "ebv.log_probabilities": ([FIVE, ROWS[:, :5]], {"temperature": 0.5}),
    "dexml.soft_top_k": ([FIVE], {"k": 2.0, "temperature": 4.0}),
    "energy.abet": ([np.array([[0.8, 0.2], [0.8, 0.2]]), np.array([0.5, 0.1])], {}),
    "energy.energy": ([ROWS], {"temperature": np.array([0.5, 2.0])}),
    "energy.msp": ([ROWS], {}),
    "nkd.loss": ([ROWS, ROWS[::-1].copy(), TARGET], {"temperature": 2.0}),
    "ordinal.coral": ([ROWS], {}),
    "ordinal.corn": ([ROWS], {}),
    "ordinal.cross_entropy": ([ROWS, TARGET], {"importance": np.linspace(1, 2, 7)}),
    "ptrue.p_ik": ([CHANCES], {}),
    "ptrue.p_true": ([ROWS, 0, [1, 2]], {}),
    "qalign.score": ([FIVE], {}),
    "qbench.score": ([ROWS, [0, 1], 5], {}),
    "realqa.score": ([np.cos(np.arange(60.0)).reshape(2, 3, 10) * 4], {}),
    "sampling.truncated": ([ROWS, "typical", 0.5], {}),
    "specdec.acceptance": ([np.array([0.5, 0.3, 0.2]), np.array([0.6, 0.1, 0.3])], {}),
    "specdec.draft_length": ([CHANCES], {}),
    "tempnet.robust_loss": ([ROWS, TARGET, np.array([0.5, 2.0])], {"rho": 1.0}),
    "tempnet.temperature": ([ROWS, np.array([0.2, 0.7])], {}),
    "text_tests.answer": ([TEXT, WORDS], {}),
    "text_tests.cross_entropy_rate": ([TEXT, TEXT[::-1].copy()], {"mask": WORDS >= 0}),
    "text_tests.statistics": ([TEXT, WORDS], {}),
    "z_loss.loss": ([ROWS, TARGET], {"a": 2.0, "b": 1.0}),
    "zpe.aggregate": ([PROMPTS, np.array([1.0, -0.5, 2.0])], {}),
    "zpe.select": ([np.array([1.0, 2.0, 3.0, 9.0])], {"threshold": 2.0}),
    "zpe.weights": ([PROMPTS, PROMPTS[:, :, ::-1].copy()], {}),
}

# For the tests of single recipes: logits of five words, alone and in a vocabulary; definitions.

FIVE_LEVELS = [9.5, 12.0, 13.25, 8.0, 4.75]
VOCABULARY = [*FIVE_LEVELS, 2.0, -1.0]


def mp(x):
    return mpmath.mpf(float(x))


def softmax(row, temperature=1):
    """The definition."""
    e = [mpmath.exp(mp(z) / temperature) for z in row]
    return [x / mpmath.fsum(e) for x in e]


def close(actual, desired, rtol=1e-13, atol=0.0):
    desired = np.array(desired, dtype=object)
    np.testing.assert_allclose(actual, desired.astype(np.float64), rtol=rtol, atol=atol)
