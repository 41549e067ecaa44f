"""Breakages of everything but losses: networks, data, scores, runs, studies."""

from tests.breakage import Breakage

BREAKAGES = [
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
  Breakage(  # a cut goes by one of several labels
    "data/base.py",
    "return one if self.has_several_labels else self.labels",
    "return self.labels.reshape(len(one), -1)[:, 0]",
    "data/test_several_labels.py shares_none",
  ),
  # --- Evaluation
  Breakage(  # one label in common is not enough
    "relevance.py",
    "return common > 0",
    "return common > 1",
    "evaluation/test_scores_of_several_labels.py definitions",
  ),
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
    "evaluation/neighbors.py",
    "slack = 2 * (x.shape[1] + 8)",
    "slack = -20 * (x.shape[1] + 8)",
    "evaluation/test_neighbors.py",
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
  Breakage(  # a class that is drawn twice counts once
    "evaluation/bootstrap.py",
    "      return times @ counts",
    "      return (times > 0) @ counts",
    "evaluation/test_bootstrap.py",
  ),
  # --- Training
  Breakage(  # the checkpoint to fall back to is not kept
    "training/checkpoints.py",
    "_NEWEST = 2",
    "_NEWEST = 1",
    "training/test_checkpoints.py",
  ),
  Breakage(  # the worst checkpoint is kept
    "training/checkpoints.py",
    "min if lower_is_better",
    "max if lower_is_better",
    "training/test_checkpoints.py",
  ),
  Breakage(  # a member begins where the oldest checkpoint is
    "training/population.py",
    ", reverse=True):",
    "):",
    "training/test_population.py goes_on or gone_on",
  ),
  Breakage(  # a record is lost
    "training/run_files.py",
    'records = [r for r in read_metrics(folder) if r["step"] <= last_step]',
    'records = [r for r in read_metrics(folder) if r["step"] < last_step]',
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
  Breakage(  # the super-class does not reach the relation
    "training/plan.py",
    'levels = RELATIONS[config.relation.name].labels == "levels"',
    "levels = False",
    "training/test_relation_studies.py super_class_and_class",
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
    "study/multiple.py",
    "room = delta - np.abs(mean)",
    "room = delta - mean",
    "study/test_multiple.py",
  ),
  Breakage(  # the better of a pair is out
    "study/best.py",
    "lower = np.where(differences.mean(axis=1) < 0, first, second)",
    "lower = np.where(differences.mean(axis=1) > 0, first, second)",
    "study/test_catalogue.py",
  ),
  Breakage(  # each comparison flips by itself: no longer of the family
    "study/multiple.py",
    "largest = np.maximum.accumulate(sums[:, ::-1], axis=1)[:, ::-1]",
    "largest = sums",
    "study/test_multiple.py",
  ),
  Breakage(  # all searches of a cell begin with the same seed
    "study/tuning/searches.py",
    "first = config.seed + STRIDE * number",
    "first = config.seed",
    "study/test_searches.py",
  ),
  Breakage(  # searches see the same folds
    "study/tuning/folds.py",
    '"data.validation_draw": seed if config.tune.folds > 1 else 0,',
    '"data.validation_draw": 0,',
    "study/test_searches.py",
  ),
  Breakage(  # the second stage is run and not looked at
    "study/tuning/choice.py",
    '_Candidate(t, [t.user_attrs["scores"], *again[t.number].scores])',
    '_Candidate(t, [t.user_attrs["scores"]])',
    "study/test_searches.py",
  ),
  Breakage(  # better is worse
    "study/comparisons.py",
    "return {unit: own[unit] - theirs[unit] for unit in own}",
    "return {unit: theirs[unit] - own[unit] for unit in own}",
    "study/test_comparisons.py",
  ),
  Breakage(  # the worst setting is chosen
    "study/results.py",
    "key=lambda s: better * s.validation.mean)",
    "key=lambda s: -better * s.validation.mean)",
    "study/test_choosing.py chosen or choose",
  ),
  Breakage(  # a threshold is learned on what it decides
    "study/verification_accuracy.py",
    'evaluation.best_threshold(*_pairs_of(arrays, "validation", metric))',
    'evaluation.best_threshold(*_pairs_of(arrays, "test", metric))',
    "study/test_choosing.py threshold",
  ),
  Breakage(  # the baseline sees test images
    "study/baselines.py",
    "PCA(dim, random_state=0).fit(_flat(splits.train.inputs))",
    "PCA(dim, random_state=0).fit(_flat(splits.test.inputs))",
    "study/test_baselines.py",
  ),
  Breakage(  # a whole interval for half of it
    "study/tables.py",
    'return f"{interval.mean:.3f} ± {interval.half_width:.3f}"',
    'return f"{interval.mean:.3f} ± {2 * interval.half_width:.3f}"',
    "study/test_tables.py",
  ),
  Breakage(  # each seed takes its worst rate
    "study/difference_curves.py",
    "  sign = 1 if lower else -1\n",
    "  sign = -1 if lower else 1\n",
    "study/test_difference_curves.py own_ones",
  ),
  Breakage(  # an interval of one point, for all of a curve
    "study/multiple.py",
    "np.sqrt(t2.max(axis=1, initial=0.0))",
    "np.sqrt(t2[:, 0])",
    "study/test_difference_curves.py factor",
  ),
  Breakage(  # what is unresolved disagrees
    "study/replication.py",
    'return first == second or "unresolved" in self.verdicts',
    "return first == second",
    "study/test_replication.py two_studies",
  ),
  Breakage(  # proxies on no sphere
    "training/units.py",
    "  return NORMALIZATIONS[objective.normalize](table)\n",
    "  return table\n",
    "training/test_margin_unit.py proxies",
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
    "study/test_launchers.py moment_ago",
  ),
  # --- Figures and scripts
  Breakage(  # the other axis
    "figures/roc.py",
    "_draw(axis, curve, curve.far, 1 - curve.frr, (curve.eer, 1 - curve.eer))",
    "_draw(axis, curve, curve.far, curve.frr, (curve.eer, 1 - curve.eer))",
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
