"""Four points in two classes."""

import jax.numpy as jnp

X = jnp.array([[0.0, 0.0], [1.0, 0.0], [0.0, 3.0], [4.0, 0.0]])
LABELS = jnp.array([0, 0, 1, 1])
