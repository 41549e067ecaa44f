"""Breaks the code on purpose, line by line, and asks whether tests see it.

    python -m tests.breakages [--tree=FOLDER] [--only=WORD]

Each breakage replaces a text of one file in a copy of the tree and runs the
tests that ought to fail. `--tree` breaks another checkout, such as an older
commit, and `--only` those whose file or tests contain a word. It takes about
half a minute for each, and exits with 1 unless all are caught.

Add a line when you add a room, and see it caught.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple


class Breakage(NamedTuple):
  """A text of a file of the package, what takes its place, and who sees it.

  seen_by: a path in tests/, and after a blank an expression for `-k`.
  """

  file: str
  text: str
  broken: str
  seen_by: str


DEFINED = "losses/test_definitions.py value_and_gradient and"

BREAKAGES = [
  # --- Distances and rows
  Breakage(  # a sign in a derivative
    "distances/tiled.py",
    "return -_sum_signs(y, x, g.T), -_sum_signs(x, y, g)\n",
    "return -_sum_signs(y, x, g.T), _sum_signs(x, y, g)\n",
    "test_distances.py gradient",
  ),
  Breakage(  # a factor
    "distances/tiled.py",
    "norms - 2 * product(x, y)",
    "norms - product(x, y)",
    "test_distances.py matrix_equals_scipy",
  ),
  Breakage(  # an exponent of a derivative
    "distances/tiled.py",
    "_power(z * inverse, p - 1) if",
    "_power(z * inverse, p) if",
    "test_distances.py every_power",
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
    "test_objective.py no_gradient",
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
    "test_cross_batch_memory.py",
  ),
  Breakage(  # the warm-up is one step longer
    "objectives/memory.py",
    "early = memory.step < self.warmup",
    "early = memory.step <= self.warmup",
    "test_cross_batch_memory.py",
  ),
  Breakage(  # a factor is lost
    "objectives/combination.py",
    "values.append(weight * value)",
    "values.append(value)",
    "test_combination.py",
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
    "test_mining.py",
  ),
  Breakage(  # a sign of an exponent
    "miners/triplets.py",
    "(2 - dim) * jnp.log(d)",
    "(dim - 2) * jnp.log(d)",
    "test_mining.py",
  ),
  Breakage(  # strict instead of by ε
    "miners/pairs.py",
    "row.distances - epsilon < far",
    "row.distances < far",
    "test_mining.py",
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
    "far = jnp.argmax(jnp.where(positive, row.distances, -jnp.inf))",
    "far = jnp.argmin(jnp.where(positive, row.distances, jnp.inf))",
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
    "both - 2 * own",
    "both - own",
    f"{DEFINED} quadruplet",
  ),
  Breakage(  # the positive is not in the denominator
    "losses/softmax.py",
    "everyone = weighted_logsumexp(logits, positives + negatives)",
    "everyone = weighted_logsumexp(logits, negatives)",
    f"{DEFINED} supcon",
  ),
  Breakage(  # a sign of a prior
    "losses/softmax.py",
    "kept = 1 - positive_prior * jnp.exp(-safe)",
    "kept = 1 + positive_prior * jnp.exp(-safe)",
    f"{DEFINED} debiased",
  ),
  Breakage(  # an angle is added that is to be subtracted
    "losses/softmax.py",
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
  Breakage(  # centres flee their classes
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
    "return by_rows + by_own, *others",
    "return by_rows, *others",
    f"{DEFINED} triplet_swap-l1",
  ),
  # --- Networks
  Breakage(  # a corner of a patch is not looked at
    "models/layers.py",
    "top = jnp.maximum(x[:, ::2, ::2], x[:, ::2, 1::2])",
    "top = jnp.maximum(x[:, ::2, ::2], x[:, ::2, ::2])",
    "models/test_layers.py max_pool",
  ),
  Breakage(  # twice the variance
    "models/initializers.py",
    "mean = math.prod(patch) * (cin + cout) / 2",
    "mean = math.prod(patch) * (cin + cout)",
    "models/test_initializers.py",
  ),
  # --- Data
  Breakage(  # the wrong end of a cycle
    "data/samplers.py",
    "free[cycles[i - 1, -begun:]] = False",
    "free[cycles[i - 1, :begun]] = False",
    "data/test_sampler.py",
  ),
  Breakage(  # an anchor is its own positive
    "data/samplers.py",
    "other = start + (place - start + rng.integers(1, size)) % size",
    "other = start + (place - start + rng.integers(0, size)) % size",
    "data/test_sampler.py",
  ),
  Breakage(  # the map instead of its inverse
    "data/augment.py",
    "y, x = cos * y - sin * x, sin * y + cos * x",
    "y, x = cos * y + sin * x, cos * x - sin * y",
    "data/test_augment.py",
  ),
  Breakage(  # a swapped fold
    "data/sets/lfw.py",
    "after = folds[(config.fold + 1) % len(folds)]",
    "after = folds[(config.fold + 2) % len(folds)]",
    "data/test_lfw.py",
  ),
  Breakage(  # what is held out is trained on
    "data/cuts.py",
    "  return rest, held_out\n",
    "  return held_out, rest\n",
    "data/test_data_base.py",
  ),
  Breakage(  # another order of bytes
    "data/files.py",
    'shape = tuple(np.frombuffer(header, ">u4").tolist())',
    'shape = tuple(np.frombuffer(header, "<u4").tolist())',
    "data/test_idx.py",
  ),
  Breakage(  # test images are compared with those of training alone
    "data/duplicates.py",
    'for kind, part in (("validation", parts[1]), ("training", parts[0])):',
    'for kind, part in (("training", parts[0]),):',
    "data/test_duplicates.py",
  ),
  # --- Evaluation
  Breakage(  # an off-by-one of a rank
    "evaluation/retrieval.py",
    "rank = np.arange(1, hits.shape[1] + 1)",
    "rank = np.arange(hits.shape[1]) + 1e-9",
    "evaluation/test_retrieval.py",
  ),
  Breakage(  # ties
    "evaluation/retrieval.py",
    "result[i] = 1 / (1 + closer + tied_before)",
    "result[i] = 1 / (1 + closer)",
    "evaluation/test_retrieval.py",
  ),
  Breakage(  # impostors count as right
    "evaluation/verification.py",
    "best = np.argmax(genuine - impostor)",
    "best = np.argmax(genuine + impostor)",
    "evaluation/test_verification.py",
  ),
  Breakage(  # the bound of rounding
    "evaluation/neighbours.py",
    "slack = 2 * (x.shape[1] + 8)",
    "slack = -20 * (x.shape[1] + 8)",
    "evaluation/test_neighbours.py",
  ),
  Breakage(  # pairs of an item with itself
    "evaluation/geometry.py",
    "pairs = counts * (counts - 1)",
    "pairs = counts * counts",
    "evaluation/test_geometry.py ratio",
  ),
  Breakage(  # s of a whole population
    "evaluation/few_shot.py",
    "1.96 * accuracies.std(ddof=1)",
    "1.96 * accuracies.std(ddof=0)",
    "evaluation/test_few_shot.py interval",
  ),
  Breakage(  # classes weigh alike, whatever their size
    "evaluation/bootstrap.py",
    "means = (times @ sums) / (times @ counts)",
    "means = (times @ (sums / counts)) / len(classes)",
    "evaluation/test_bootstrap.py",
  ),
  # --- Training
  Breakage(  # the checkpoint to fall back to is not kept
    "training/checkpoints.py",
    "checkpoint_managers.LatestN(2)",
    "checkpoint_managers.LatestN(1)",
    "training/test_checkpoints.py",
  ),
  Breakage(  # the worst checkpoint is kept
    "training/checkpoints.py",
    "reverse=lower_is_better",
    "reverse=not lower_is_better",
    "training/test_checkpoints.py",
  ),
  Breakage(  # a member begins where the oldest checkpoint is
    "training/population.py",
    ", reverse=True):",
    "):",
    "training/test_population.py goes_on or gone_on",
  ),
  Breakage(  # a record is lost
    "training/records.py",
    'kept = [r for r in read_metrics(folder) if r["step"] <= last_step]',
    'kept = [r for r in read_metrics(folder) if r["step"] < last_step]',
    "training/test_loop.py killed",
  ),
  Breakage(  # each step draws the same
    "training/step.py",
    "key = jax.random.fold_in(key, number)\n",
    "key = jax.random.fold_in(key, 0)\n",
    "training/test_loop.py step",
  ),
  Breakage(  # the last step is not scored
    "training/loop.py",
    "return done % config.train.eval_every == 0 or done == config.train.steps",
    "return done % config.train.eval_every == 0",
    "training/test_loop.py",
  ),
  Breakage(  # views of an image are no longer its own class
    "data/feeds.py",
    "yield np.tile(indices, views), affinity",
    "yield np.repeat(indices, views), affinity",
    "training/test_batches.py views",
  ),
  # --- Studies
  Breakage(  # Holm: the same factor for all
    "study/statistics.py",
    "p[order] * np.arange(len(p), 0, -1)",
    "p[order] * len(p)",
    "study/test_statistics.py",
  ),
  Breakage(  # signs are dropped, not flipped
    "study/statistics.py",
    "np.concatenate([sums + value, sums - value])",
    "np.concatenate([sums + value, sums])",
    "study/test_statistics.py",
  ),
  Breakage(  # one test of two
    "study/statistics.py",
    "if -delta < narrow.low and narrow.high < delta:",
    "if narrow.high < delta:",
    "study/test_statistics.py",
  ),
  Breakage(  # better is worse
    "study/comparisons.py",
    "return np.array([own[unit] - theirs[unit] for unit in own])",
    "return np.array([theirs[unit] - own[unit] for unit in own])",
    "study/test_comparisons.py",
  ),
  Breakage(  # the worst setting is chosen
    "study/results.py",
    "key=lambda s: better * s.validation.mean)",
    "key=lambda s: -better * s.validation.mean)",
    "study/test_study.py chosen or choose",
  ),
  Breakage(  # a threshold is learned on what it decides
    "study/verification_accuracy.py",
    'evaluation.best_threshold(*_pairs_of(arrays, "validation", metric))',
    'evaluation.best_threshold(*_pairs_of(arrays, "test", metric))',
    "study/test_study.py threshold",
  ),
  Breakage(  # the baseline sees test images
    "study/baselines.py",
    "PCA(dim, random_state=0).fit(_flat(splits.train.inputs))",
    "PCA(dim, random_state=0).fit(_flat(splits.test.inputs))",
    "study/test_study.py baseline",
  ),
  Breakage(  # a whole interval for half of it
    "study/tables.py",
    'return f"{interval.mean:.3f} ± {interval.half_width:.3f}"',
    'return f"{interval.mean:.3f} ± {2 * interval.half_width:.3f}"',
    "study/test_comparisons.py",
  ),
  Breakage(  # the better half of the trials is pruned
    "study/tuning/trials.py",
    "return mean > median if lower",
    "return mean < median if lower",
    "study/test_tuning.py prun",
  ),
  Breakage(  # a row is claimed again that another process finished
    "study/launchers/claims.py",
    "    if not is_finished(workdir):\n      ours.append(spec)",
    "    ours.append(spec)",
    "study/test_launchers.py",
  ),
  # --- Figures and scripts
  Breakage(  # the other axis
    "figures/roc.py",
    "axis.plot(far[rows], 1 - frr[rows],",
    "axis.plot(far[rows], frr[rows],",
    "figures/test_figure_pairs.py",
  ),
  Breakage(  # shares of nothing
    "figures/histograms.py",
    "axis.stairs(counts / max(1, counts.sum()), edges",
    "axis.stairs(counts / len(distances), edges",
    "figures/test_figure_pairs.py",
  ),
  Breakage(  # bad input looks like a crash
    "../experiments/cli.py",
    "def _stop(message: str, status: int = 2)",
    "def _stop(message: str, status: int = 1)",
    "experiments/test_bad_input.py",
  ),
]


def copy(tree: Path, folder: Path) -> Path:
  """The files of a checkout that git knows or would know."""
  listed = subprocess.run(
    ["git", "-C", tree, "ls-files", "-co", "--exclude-standard"],
    capture_output=True,
    text=True,
    check=True,
  ).stdout.splitlines()
  for name in listed:
    if (tree / name).is_file():
      (folder / name).parent.mkdir(parents=True, exist_ok=True)
      shutil.copy2(tree / name, folder / name)
  return folder


def path_of(tree: Path, breakage: Breakage) -> Path:
  """The file of a checkout that is to be broken."""
  return tree / "metric_learning" / breakage.file


def times_found(tree: Path, breakage: Breakage) -> int:
  """How often the text stands in its file; once, if it is up to date."""
  path = path_of(tree, breakage)
  return path.read_text().count(breakage.text) if path.exists() else 0


def outcome(tree: Path, breakage: Breakage) -> str:
  """Breaks a copy of the tree, runs the tests, mends it again."""
  if times_found(tree, breakage) != 1:
    return f"TEXT FOUND {times_found(tree, breakage)} TIMES"
  path = path_of(tree, breakage)
  whole = path.read_text()
  path.write_text(whole.replace(breakage.text, breakage.broken))
  where, _, words = breakage.seen_by.partition(" ")
  command = [sys.executable, "-m", "pytest", "-qx", "-p", "no:cacheprovider"]
  command += [f"tests/{where}", *(["-k", words] if words else [])]
  try:
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True)
  finally:
    path.write_text(whole)
  failed = [
    line.split(" - ")[0].removeprefix("FAILED ")
    for line in done.stdout.splitlines()
    if line.startswith("FAILED")
  ]
  if done.returncode == 1 and failed:
    return f"caught by {failed[0]}"
  if done.returncode == 0:
    return "NOT CAUGHT"
  last = (done.stdout + done.stderr).strip().splitlines()[-1:]
  return f"NOT RUN (pytest ended with {done.returncode}: {last})"


def main() -> None:
  """Prints one line for each breakage, and how many were caught."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--tree", type=Path, default=Path(__file__).parents[1])
  parser.add_argument("--only", default="")
  given = parser.parse_args()
  chosen = [b for b in BREAKAGES if given.only in f"{b.file} {b.seen_by}"]
  caught = 0
  with tempfile.TemporaryDirectory() as folder:
    tree = copy(given.tree.resolve(), Path(folder))
    for breakage in chosen:
      said = outcome(tree, breakage)
      caught += said.startswith("caught")
      text = " ".join(breakage.text.split())
      print(f"{breakage.file}: {text}\n  {said}", flush=True)
  print(f"{caught} of {len(chosen)} breakages were caught.")
  sys.exit(caught < len(chosen))


if __name__ == "__main__":
  main()
