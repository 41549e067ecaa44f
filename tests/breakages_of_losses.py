"""Breakages of the parts of a loss: distances, rows, miners, objectives."""

from tests.breakage import Breakage

DEFINED = "losses/test_definitions.py value_and_gradient and"

BREAKAGES = [
  # --- Distances and rows
  Breakage(  # a sign in a derivative
    "distances/tiled.py",
    "return -_sum_signs(y, x, g.T), -_sum_signs(x, y, g)\n",
    "return -_sum_signs(y, x, g.T), _sum_signs(x, y, g)\n",
    "distances/test_distance_gradients.py gradient",
  ),
  Breakage(  # a factor
    "distances/tiled.py",
    "norms + product(x, -2 * y)",
    "norms + product(x, -y)",
    "distances/test_distance_values.py matrix_equals_scipy",
  ),
  Breakage(  # an exponent of a derivative
    "distances/tiled.py",
    "_power(z * inverse, p - 1) if",
    "_power(z * inverse, p) if",
    "distances/test_distance_axioms.py every_power",
  ),
  Breakage(  # an item meets itself
    "rows.py",
    "comparable = anchors.group[:, None] != candidates.group[None, :]",
    "comparable = anchors.group[:, None] >= anchors.group[:, None]",
    "test_rows.py",
  ),
  Breakage(  # zero counts as active
    "rows.py",
    "active = exists & (values > 0)",
    "active = exists & (values >= 0)",
    "test_rows.py",
  ),
  Breakage(  # the first positive of a group is passed over
    "rows.py",
    "jnp.where(exists, indices, m)",
    "jnp.where(exists, indices + 1, m)",
    "test_rows.py each_positive",
  ),
  Breakage(  # the nearest of the last group
    "rows.py",
    "jnp.argmin(jnp.min(groups, axis=-1))",
    "jnp.argmax(jnp.min(groups, axis=-1))",
    "test_rows.py nearest",
  ),
  Breakage(  # the mean over all anchors, also those without a term
    "rows.py",
    "(t.count > 0).astype(t.total.dtype))",
    "(t.count >= 0).astype(t.total.dtype))",
    "test_rows.py",
  ),
  Breakage(  # all devices fold the anchors of the first
    "rows.py",
    "jax.lax.axis_index(axes) * each",
    "0 * each",
    "test_devices.py",
  ),
  # --- Objective, memory, combination, relations, mining
  Breakage(  # a missing stop_gradient
    "objectives/folding.py",
    "distances = jax.lax.stop_gradient(rows.distances)\n",
    "distances = rows.distances\n",
    "objectives/test_objective.py no_gradient",
  ),
  Breakage(  # weights of classes count too
    "objectives/objective.py",
    "total=factor * terms.total,",
    "total=factor * terms.total, count=factor * terms.count,",
    "losses/test_reduction_options.py every_reduction",
  ),
  Breakage(  # a NaN is swallowed
    "objectives/objective.py",
    "sick = given + _not_finite(met.anchors, met.candidates)",
    "sick = 0 * given",
    "losses/test_degenerate.py swallowed and contrastive",
  ),
  Breakage(  # an off-by-one
    "objectives/memory.py",
    "(memory.pointer + rank) % size",
    "(memory.pointer + rank + 1) % size",
    "objectives/test_cross_batch_memory.py",
  ),
  Breakage(  # the warm-up is one step longer
    "objectives/memory.py",
    "early = memory.step < self.warmup",
    "early = memory.step <= self.warmup",
    "objectives/test_cross_batch_memory.py",
  ),
  Breakage(  # a factor is lost
    "objectives/combination.py",
    "values.append(weight * value)",
    "values.append(value)",
    "objectives/test_combination.py",
  ),
  Breakage(  # the smallest level instead of the largest
    "relations.py",
    "positives = jnp.max(jnp.stack(equal), axis=0)",
    "positives = jnp.min(jnp.stack(equal), axis=0)",
    "test_relations.py",
  ),
  Breakage(  # an end of an interval
    "miners/chosen.py",
    "(gap <= self.high)",
    "(gap < self.high)",
    "miners/test_miner_choices.py",
  ),
  Breakage(  # a sign of an exponent
    "miners/triplets.py",
    "(2 - dim) * jnp.log(d)",
    "(dim - 2) * jnp.log(d)",
    "miners/test_random_miners.py density",
  ),
  Breakage(  # strict instead of by ε
    "miners/pairs.py",
    "row.distances - epsilon < far",
    "row.distances < far",
    "miners/test_miner_choices.py",
  ),
  # --- Losses, one file after the other
  Breakage(  # a sign
    "losses/contrastive.py",
    "jax.nn.relu(d - positive_margin), jax.nn.relu(negative_margin - d)",
    "jax.nn.relu(d - positive_margin), jax.nn.relu(d - negative_margin)",
    f"{DEFINED} contrastive_linear",
  ),
  Breakage(  # a square is lost
    "losses/contrastive.py",
    "jax.nn.relu(margin**2 - d**2)",
    "jax.nn.relu(margin - d**2)",
    f"{DEFINED} sq_margin",
  ),
  Breakage(  # the nearest positive
    "losses/triplets.py",
    "far = farthest(row.distances, row.positives > 0)",
    "far = nearest(row.distances, row.positives > 0)",
    f"{DEFINED} batch_hard",
  ),
  Breakage(  # a missing stop_gradient
    "losses/triplets.py",
    "row = row._replace(distances=jax.lax.stop_gradient(row.distances))",
    "row = row._replace(distances=row.distances)",
    f"{DEFINED} dynamic_soft",
  ),
  Breakage(  # the softest of both
    "losses/lifted.py",
    "push = jnp.maximum(_hardest(row, margin), context.shared)",
    "push = jnp.minimum(_hardest(row, margin), context.shared)",
    f"{DEFINED} lifted_hard",
  ),
  Breakage(  # pairs of the anchor's class are left in
    "losses/quadruplets.py",
    "every - 2 * with_class",
    "every - with_class",
    f"{DEFINED} quadruplet",
  ),
  Breakage(  # the positive is not in the denominator
    "losses/softmax.py",
    "log_normalizer = weighted_logsumexp(logits, positives + negatives)",
    "log_normalizer = weighted_logsumexp(logits, negatives)",
    f"{DEFINED} supcon",
  ),
  Breakage(  # a sign of a prior
    "losses/softmax.py",
    "remainder = 1 - positive_prior * jnp.exp(-safe)",
    "remainder = 1 + positive_prior * jnp.exp(-safe)",
    f"{DEFINED} debiased",
  ),
  Breakage(  # an angle is added that is to be subtracted
    "losses/tuples.py",
    "relaxed = cos * jnp.cos(margin) + sin * jnp.sin(margin)",
    "relaxed = cos * jnp.cos(margin) - sin * jnp.sin(margin)",
    f"{DEFINED} tuplet_margin",
  ),
  Breakage(  # cumulated from the wrong end
    "losses/ranking.py",
    "beyond = jnp.cumsum(positive[::-1])[::-1]",
    "beyond = jnp.cumsum(positive)",
    f"{DEFINED} histogram",
  ),
  Breakage(  # the positive itself is not counted
    "losses/ranking.py",
    "among_positives = 1 + jnp.sum",
    "among_positives = jnp.sum",
    f"{DEFINED} smooth_ap-cosine",
  ),
  Breakage(  # a missing stop_gradient
    "losses/listwise.py",
    "from_positive = jax.lax.stop_gradient(jax.nn.relu(1 + margin - s))",
    "from_positive = jax.nn.relu(1 + margin - s)",
    f"{DEFINED} circle",
  ),
  Breakage(  # weights swapped
    "losses/listwise.py",
    "value = (1 - balance) * pull + balance * push",
    "value = balance * pull + (1 - balance) * push",
    f"{DEFINED} ranked_list",
  ),
  Breakage(  # a square is lost
    "losses/angular.py",
    "tangent = jnp.tan(angle) ** 2",
    "tangent = jnp.tan(angle)",
    f"{DEFINED} angular",
  ),
  Breakage(  # the margin has the other sign
    "losses/proxies.py",
    "push = _log_one_plus_sum(alpha * (cos + margin), row.negatives)",
    "push = _log_one_plus_sum(alpha * (cos - margin), row.negatives)",
    f"{DEFINED} proxy_anchor",
  ),
  Breakage(  # centers flee their classes
    "losses/proxies.py",
    "moved = centers - rate * pull",
    "moved = centers + rate * pull",
    "losses/test_states.py",
  ),
  Breakage(  # an axis
    "losses/proxies.py",
    "share = jax.nn.softmax(-distances / gamma, axis=0)",
    "share = jax.nn.softmax(-distances / gamma, axis=1)",
    f"{DEFINED} soft_triple",
  ),
  Breakage(  # the angle is made smaller
    "losses/classifiers.py",
    "turned = cos * jnp.cos(margin) - sin * jnp.sin(margin)",
    "turned = cos * jnp.cos(margin) + sin * jnp.sin(margin)",
    f"{DEFINED} arcface-",
  ),
  Breakage(  # a factor
    "losses/regularizers.py",
    "ratio(jnp.sum(deviation**2) / 4, count)",
    "ratio(jnp.sum(deviation**2) / 2, count)",
    "losses/test_regularizers.py",
  ),
  Breakage(  # a biased covariance
    "losses/views.py",
    "covariance = _product(view, view) / (pairs.number - 1)",
    "covariance = _product(view, view) / pairs.number",
    f"{DEFINED} vicreg",
  ),
  Breakage(  # a term of a derivative is lost
    "losses/over_positives.py",
    "return by_rows + by_positive, *others",
    "return by_rows, *others",
    f"{DEFINED} triplet_swap-l1",
  ),
]
