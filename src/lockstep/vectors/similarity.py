"""Comparing vectors: cosine, dot product and distance, and the sign bits that stand in for a vector in a first look."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lockstep.errors import UnknownName
from lockstep.types import METRICS, Metric, Vectors

# Lengths whose squares float32 holds without loss; vectors of other lengths are measured in float64.
_SHORTEST, _LONGEST = 1e-15, 1e15
_BLOCK = 1 << 18  # numbers compared at a time: their differences stay in the processor's cache


def similarity(queries: Vectors, vectors: Vectors, metric: Metric) -> npt.NDArray[np.float32]:
    """How close every query is to every vector: float32, shape (m, n); higher is closer.

    - `cosine`: of the angle, in [-1, 1]; the lengths do not matter.
    - `dot`: the dot product; any number. Equals the cosine where both have length 1.
    - `euclidean`: 1 / (1 + distance), in (0, 1]; 1 for equal vectors.

    Vectors that are kept in another form than float32 are decoded first, and the query stays as it is. For int8 and
    binary that is an asymmetric comparison: only one side has lost something, so it ranks better than comparing codes
    with codes. Where the query is a binary vector, too, the cosine is 1 - 2 h / dimensions, with h their Hamming
    distance. Binary keeps no lengths: there, all three metrics rank by the angle with the signs.

    Args:
        queries: float32, shape (m, dimensions); for `cosine` of any length but 0.
        vectors: float32, shape (n, dimensions); likewise.
        metric: see above.

    Raises:
        UnknownName: there is no such metric.
    """
    if metric == "cosine":
        found = cosine(normalise(queries), vectors)
        np.clip(found, -1, 1, out=found)
        return found
    if metric == "dot":
        product: npt.NDArray[np.float32] = queries @ vectors.T
        return product
    if metric == "euclidean":
        closeness: npt.NDArray[np.float32] = np.float32(1) / (np.float32(1) + distances(queries, vectors))
        return closeness
    raise UnknownName("metric", str(metric), METRICS)


def normalise(vectors: Vectors) -> Vectors:
    """Each row scaled to length 1; rows of length 0 stay. float32, shape as given."""
    lengths = _lengths(vectors)
    odd = np.flatnonzero(~((lengths >= _SHORTEST) & (lengths <= _LONGEST)))
    lengths[odd] = 1
    scaled: Vectors = vectors / lengths[:, None]
    if len(odd):
        exact = vectors[odd].astype(np.float64)
        exact_lengths = np.linalg.norm(exact, axis=1)
        exact_lengths[exact_lengths == 0] = 1
        scaled[odd] = (exact / exact_lengths[:, None]).astype(np.float32)
    return scaled


def cosine(queries: Vectors, vectors: Vectors) -> npt.NDArray[np.float32]:
    """Cosine similarity of every query with every vector: float32, shape (len(queries), len(vectors)).

    Args:
        queries: float32, shape (m, dimensions), of length 1.
        vectors: float32, shape (n, dimensions), of any length but 0.
    """
    lengths = _lengths(vectors)
    if len(lengths) and not (lengths.min() >= _SHORTEST and lengths.max() <= _LONGEST):
        vectors, lengths = normalise(vectors), np.ones(len(vectors), dtype=np.float32)
    product: npt.NDArray[np.float32] = (queries @ vectors.T) / lengths[None, :]
    return product


def distances(queries: Vectors, vectors: Vectors) -> npt.NDArray[np.float32]:
    """Euclidean distance of every query to every vector: float32, shape (len(queries), len(vectors)).

    Differences are taken before they are squared: the way through the dot product, |q|² + |v|² - 2 q·v, loses the
    digits that tell near vectors apart.

    Args:
        queries: float32, shape (m, dimensions).
        vectors: float32, shape (n, dimensions).
    """
    found = np.empty((len(queries), len(vectors)), dtype=np.float32)
    step = max(1, _BLOCK // max(1, vectors.shape[1]))
    for start in range(0, len(vectors), step):
        part = vectors[start : start + step]
        for number, query in enumerate(queries):
            difference = part - query
            found[number, start : start + step] = np.einsum("ij,ij->i", difference, difference)
    return np.sqrt(found, out=found)


def sign_bits(vectors: Vectors) -> npt.NDArray[np.uint8]:
    """One bit per dimension, 1 where it is above 0: uint8, shape (n, ceil(dimensions / 8)).

    Two vectors that point the same way agree in most of their signs: their Hamming distance grows with their angle
    (Charikar 2002, random hyperplanes; here the axes of the space).
    """
    return np.packbits(vectors > 0, axis=1)


def _lengths(vectors: Vectors) -> npt.NDArray[np.float32]:
    """Of each row; 0 or infinite where float32 does not hold its square."""
    with np.errstate(over="ignore"):
        lengths: npt.NDArray[np.float32] = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    return lengths
