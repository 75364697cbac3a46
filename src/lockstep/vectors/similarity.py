"""Comparing vectors: cosine similarity, and the sign bits that stand in for a vector in a first look."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lockstep.types import Vectors


def normalise(vectors: Vectors) -> Vectors:
    """Each row scaled to length 1; rows of length 0 stay. float32, shape as given."""
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    lengths[lengths == 0] = 1
    scaled: Vectors = vectors / lengths[:, None]
    return scaled


def cosine(queries: Vectors, vectors: Vectors) -> npt.NDArray[np.float32]:
    """Cosine similarity of every query with every vector: float32, shape (len(queries), len(vectors)).

    Args:
        queries: float32, shape (m, dimensions), of length 1.
        vectors: float32, shape (n, dimensions), of any length but 0.
    """
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    product: npt.NDArray[np.float32] = (queries @ vectors.T) / lengths[None, :]
    return product


def sign_bits(vectors: Vectors) -> npt.NDArray[np.uint8]:
    """One bit per dimension, 1 where it is above 0: uint8, shape (n, ceil(dimensions / 8)).

    Two vectors that point the same way agree in most of their signs: their Hamming distance grows with their angle
    (Charikar 2002, random hyperplanes; here the axes of the space).
    """
    return np.packbits(vectors > 0, axis=1)
