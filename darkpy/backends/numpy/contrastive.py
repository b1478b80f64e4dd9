"""Supervised contrastive loss of the embeddings of objects (Darknet: softmax_layer.c, blas.c; Khosla 2020).

An object is compared with the others of its class only: with other views of itself, which its embedding is drawn
towards, and with other objects, which it is pushed away from. There are at most as many embeddings as objects in a
mini-batch, so the comparisons are one matrix.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from darkpy.backends.base_contrastive import Samples, find_samples
from darkpy.backends.base_heads import ContrastiveLoss
from darkpy.backends.numpy.memory import MemoryOperations

SURE = 0.9999
"""The probability of a pair that nothing competes with, and the highest that is counted."""


class ContrastiveOperations(MemoryOperations):
    """The operation of [contrastive]."""

    def contrastive_loss(
        self, embeddings: np.ndarray, truth: Any, grad: np.ndarray, settings: ContrastiveLoss
    ) -> float:
        """See :meth:`Backend.contrastive_loss`; the gradient is the negative of Darknet's delta."""
        n, _, height, width = embeddings.shape
        shape = (n, len(settings.head.mask), -1, height, width)
        embeddings, grad = embeddings.reshape(shape), grad.reshape(shape)
        grad.fill(0)
        samples = truth if isinstance(truth, Samples) else find_samples(truth, height, width, settings.head)
        picture, slot, row, column = samples.places.T
        vectors = embeddings[picture, slot, :, row, column].astype(np.float64)
        gradient = settings.cls_normalizer * contrast(vectors, samples, n // settings.time_steps, settings)
        gradient = np.clip(gradient, -settings.max_delta, settings.max_delta)
        grad[picture, slot, :, row, column] = gradient
        return float(np.square(gradient).sum())


def contrast(vectors: np.ndarray, samples: Samples, pictures: int, settings: ContrastiveLoss) -> np.ndarray:
    """Gradients (k, size) of the embeddings (k, size); ``pictures`` follow each other in one step of time.

    With s the cosine of two embeddings and P the share of exp(s / temperature) among all pairs with the same second
    partner: towards each other view j the gradient is (s z_i - z_j) (1 - P), away from another object k it is
    (z_k - s z_i) P, each divided by the number of other views, the temperature and the length of z_i
    (grad_contrastive_loss_positive_f, grad_contrastive_loss_negative_f).
    """
    lengths = np.sqrt(np.square(vectors).sum(axis=1))
    products = np.outer(lengths, lengths)
    cosines = np.divide(vectors @ vectors.T, products, out=np.zeros_like(products), where=products > 0)
    comparable = pairs(samples, pictures)
    shares = probabilities(cosines, comparable, settings.temperature)
    coefficients = np.zeros_like(shares)
    views = np.zeros(len(vectors))
    for index, label in enumerate(samples.labels):
        same = samples.labels == label
        views[index] = same.sum() - 1
        attracts = same & comparable[index]
        coefficients[index, attracts] -= 1 - shares[index, attracts]
        for other in competitors(index, samples, settings.contrastive_neg_max):
            if comparable[index, other]:
                coefficients[index, other] += shares[index, other]
    scale = views * settings.temperature * lengths
    scale = np.divide(1.0, scale, out=np.zeros_like(scale), where=scale > 0)
    own = (coefficients * cosines).sum(axis=1)
    return scale[:, None] * (coefficients @ vectors - own[:, None] * vectors)


def pairs(samples: Samples, pictures: int) -> np.ndarray:
    """Which samples are compared (k, k): those of one class and step of time, and none with itself."""
    step = samples.places[:, 0] // pictures
    comparable = (samples.classes[:, None] == samples.classes) & (step[:, None] == step)
    np.fill_diagonal(comparable, False)
    return comparable


def probabilities(cosines: np.ndarray, comparable: np.ndarray, temperature: float) -> np.ndarray:
    """How much of what the second partner shares with all others but the first, it shares with the first (k, k)."""
    # Shifted so that the exponential stays finite; the quotient is the same.
    weights = np.where(comparable, np.exp((cosines - 1) / temperature), 0.0)
    rivals = comparable.sum(axis=0) - comparable
    others = np.where(rivals > 0, weights.sum(axis=0) - weights, 0.0)
    shares = np.divide(weights, others, out=np.full_like(weights, np.inf), where=others > 0)
    return np.where(shares > 1, SURE, shares)


def competitors(index: int, samples: Samples, most: int) -> list[int]:
    """The first ``most`` other objects of the class, gone through once for every other view of this one."""
    found: list[int] = []
    views = (samples.labels == samples.labels[index]) & (np.arange(len(samples.labels)) != index)
    for view in np.flatnonzero(views):
        others = (samples.labels != samples.labels[index]) & (samples.classes == samples.classes[view])
        found.extend(np.flatnonzero(others).tolist())
        if len(found) >= most:
            break
    return found[:most]
