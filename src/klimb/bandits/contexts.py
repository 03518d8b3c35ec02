"""From the states of a model to the context of a choice: pure functions of NumPy arrays."""

from __future__ import annotations

import numpy as np

from klimb.bandits.state import Matrix, Vector
from klimb.errors import KlimbError
from klimb.seeds import seed_of


def projection(seed: int, inputs: int, outputs: int) -> Matrix:
    """A random matrix [outputs, inputs] that keeps lengths in expectation: normals of variance 1 / outputs."""
    rng = np.random.Generator(np.random.Philox(key=seed_of("projection", seed, inputs, outputs)))
    matrix: Matrix = rng.standard_normal((outputs, inputs)) / np.sqrt(outputs)
    return matrix


def normalised(vector: Vector) -> Vector:
    """The vector at length one, so that the width of a guess does not hang on the model's scale; zero stays zero."""
    vector = finite(vector)
    largest = float(np.max(np.abs(vector), initial=0.0))
    if largest == 0.0:
        return vector
    scaled = vector / largest  # squares of what is left neither overflow nor vanish all
    unit: Vector = scaled / np.sqrt(scaled @ scaled)
    return unit


def projected(vector: Vector, matrix: Matrix) -> Vector:
    """A state of the frozen encoder as a context: projected, then normalised."""
    return normalised(matrix @ normalised(vector))


def batch_mean(vectors: Matrix) -> Vector:
    """The mean [d] of the contexts [n, d] of a batch, for one choice for all of it."""
    if len(vectors) == 0:
        raise KlimbError("the mean context of a batch", "no prompts", "a batch with a prompt")
    return finite(np.mean(finite(vectors), axis=0))


def with_constant(vector: Vector) -> Vector:
    """The normalised context with a one at its end, normalised again: an arm can then be good or bad everywhere."""
    return normalised(np.append(normalised(vector), 1.0))


def finite(vector: Vector) -> Vector:
    """The numbers as float64. Raises KlimbError where one is not finite."""
    exact = np.asarray(vector, dtype=np.float64)
    if not np.isfinite(exact).all():
        raise KlimbError("a context of finite numbers", "NaN or infinity", "check the encoder's states")
    return exact
