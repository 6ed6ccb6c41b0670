"""Zero-shot prompt ensembling: weights of prompts from unlabelled images."""

from typing import Any

import numpy as np

from softmap.systems._recipe import float_rows, floats, raise_shape, recipe

__all__ = ["aggregate", "select", "weights"]

NORMALIZATIONS = ("both", "test", "pretrain", "pretrain_star", "none")


@recipe(None, logits=floats, pretrain_logits=floats)
def weights(
    logits: Any,
    pretrain_logits: Any = None,
    *,
    normalization: str = "both",
    per_image: bool = False,
) -> Any:
    """Weight of each prompt: the largest logit over classes, once the bias of each is taken off.

    weight[p] = mean over images i of max over c of (logits[i, p, c] - bias[p, c]), where the bias
    is the mean of the logits of the pre-training images, or of these images, or half of both.

    Parameters
    ----------
    logits : array_like (I, P, C)
        Of I images, P prompts and C classes.
    pretrain_logits : array_like (J, P, C), optional
        Of J images of the pre-training data.
    normalization : {"both", "test", "pretrain", "pretrain_star", "none"}
        Which bias: half of the sum of both means, one of them, "pretrain" averaged over the classes
        too, or none.
    per_image : bool
        Do not average over the images.

    Returns
    -------
    weights : array (P,) or (I, P)
        May be negative, and is then used as such. The softmax of them is an option of the paper.

    Raises
    ------
    ValueError
        For shapes that do not fit, and pre-training logits that are needed but missing.

    Notes
    -----
    Checked against: plain loops, for each normalization.

    References
    ----------
    J. U. Allingham et al., "A Simple Zero-shot Prompt Weighting Technique to Improve Prompt
    Ensembling in Text-Image Models", ICML 2023, arXiv:2302.06235.

    Examples
    --------
    >>> from softmap.systems import zpe
    >>> logits = [[[1.0, 3.0], [0.0, 2.0]], [[3.0, 1.0], [2.0, 6.0]]]
    >>> zpe.weights(logits, normalization="test")  # means [[2, 2], [1, 4]]
    array([1. , 0.5])
    """
    name = "zpe.weights"
    if normalization not in NORMALIZATIONS:
        rule = f"it must be one of {', '.join(NORMALIZATIONS)}"
        raise ValueError(f"{name}: normalization = {normalization!r}, {rule}")
    if logits.ndim != 3 or 0 in logits.shape:
        raise_shape(name, "logits", logits.shape, "it must be (images, prompts, classes)")
    bias = logits.mean(axis=0)
    if normalization not in ("test", "none"):
        if pretrain_logits is None:
            raise ValueError(f"{name}: normalization = {normalization!r} needs pretrain_logits")
        if pretrain_logits.ndim != 3 or pretrain_logits.shape[1:] != logits.shape[1:]:
            rule = f"logits has {logits.shape}"
            raise_shape(name, "pretrain_logits", pretrain_logits.shape, rule)
        pretrain = pretrain_logits.mean(axis=0)
        star = normalization == "pretrain_star"
        bias = (bias + pretrain) / 2 if normalization == "both" else pretrain
        bias = bias.mean(axis=-1, keepdims=True) if star else bias
    best = (logits if normalization == "none" else logits - bias).max(axis=-1)
    return best if per_image else best.mean(axis=0)


@recipe(None, logits=floats, weights=floats)
def aggregate(logits: Any, weights: Any) -> Any:
    """Logits of the ensemble: the mean over the prompts of weight times logits.

    Parameters
    ----------
    logits : array_like (I, P, C)
        Of I images, P prompts and C classes.
    weights : array_like (P,) or (I, P)
        As from :func:`weights`; set those to 0 that :func:`select` leaves out.

    Returns
    -------
    logits : array (I, C)
        The prediction is their argmax.

    Notes
    -----
    Checked against: plain loops.

    References
    ----------
    J. U. Allingham et al., arXiv:2302.06235.

    Examples
    --------
    >>> from softmap.systems import zpe
    >>> zpe.aggregate([[[1.0, 3.0], [0.0, 2.0]]], [1.0, 0.5])
    array([[0.5, 2. ]])
    """
    if logits.ndim != 3 or weights.shape not in (logits.shape[1:2], logits.shape[:2]):
        rule = f"logits has {logits.shape}, (images, prompts, classes)"
        raise_shape("zpe.aggregate", "weights", weights.shape, rule)
    return (logits * weights[..., None]).mean(axis=1)


@recipe(weights=float_rows)
def select(weights: Any, *, threshold: float) -> Any:
    """Prompts whose weight is far above the median: weight - median > threshold * MAD.

    Parameters
    ----------
    weights : array_like (..., P)
        As from :func:`weights`.
    threshold : float
        In median absolute deviations; 0.5 and 2 in the paper's experiments.

    Returns
    -------
    mask : array (..., P) of bool
        With a deviation of 0, all that are above the median.

    Notes
    -----
    Official code divides by the deviation, which may be 0.

    Checked against: the standard library's medians.

    References
    ----------
    J. U. Allingham et al., arXiv:2302.06235; the authors' notebook (mad_method).

    Examples
    --------
    >>> from softmap.systems import zpe
    >>> zpe.select([1.0, 2.0, 3.0, 4.0, 9.0], threshold=2)  # median 3, deviation 1
    array([False, False, False, False,  True])
    """
    if not weights.shape[-1]:
        raise_shape("zpe.select", "weights", weights.shape, "it needs a prompt")
    from_median = weights - np.median(weights, axis=-1, keepdims=True)
    return from_median > threshold * np.median(abs(from_median), axis=-1, keepdims=True)
