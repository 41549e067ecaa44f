"""What importing the package requires, and what it provides."""

import pytest

from tests.scripts import script


@pytest.mark.slow
def test_importing_needs_only_jax_numpy_and_jaxtyping():
  loaded = script("""
    import json
    import sys
    before = set(sys.modules)
    import jax, jaxtyping, numpy
    allowed = set(sys.modules) - before
    import metric_learning
    new = {name.split(".")[0] for name in set(sys.modules) - allowed - before}
    print(json.dumps(sorted(new - set(sys.stdlib_module_names))))
  """)
  heavy = {"flax", "optax", "scipy", "sklearn", "PIL", "matplotlib"}
  assert not heavy & set(loaded)


@pytest.mark.slow
def test_a_subpackage_is_imported_at_its_first_use():
  heavy, score, names, message = script("""
    import json
    import sys
    import numpy as np
    import metric_learning as ml
    heavy = sorted({"flax", "scipy", "sklearn", "PIL"} & set(sys.modules))
    x, labels = np.eye(4, dtype=np.float32), np.array([0, 0, 1, 1])
    score = ml.evaluation.retrieval(x, labels)["recall_at_1"]
    names = [getattr(ml, name).__name__ for name in ("data", "training")]
    try:
      ml.evaluations
    except AttributeError as error:
      message = str(error)
    assert {"evaluation", "make_objective"} <= set(dir(ml))
    print(json.dumps([heavy, score, names, message]))
  """)
  assert heavy == [] and 0 <= score <= 1
  assert names == ["metric_learning.data", "metric_learning.training"]
  assert message == "module 'metric_learning' has no attribute 'evaluations'"
