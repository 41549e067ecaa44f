# Each target sets itself up: a virtual environment in .venv, made once and
# brought up to date when pyproject.toml changes.
#
#   make compare   the example of README
#   make test      all that must hold: lint, types, doctests and tests
#   make quick     the tests of a minute or so, without those that are slow
#   make slow      the others, and the doctests
#   make docs      the manual, in site/
#   make wheel     wheel and sdist in dist/, and one loss of the wheel beside jax
#                  numpy and jaxtyping alone
#   make soak      half an hour of kills and faults; writes results/reliability.md
#
# Of another Python: make PYTHON=python3.12 test

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Bytecode is kept: tests start many processes, which would compile it again.
PYTEST := PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -q -n 2 \
  --dist loadgroup

.PHONY: compare test lint types tests quick slow soak docs wheel format clean

compare: $(VENV)/compare-is-installed
	$(BIN)/python -m experiments.sweep --config=configs/glyphs.py \
	  --sweep=compare --study=runs/glyphs_compare

# At once: the types are checked while the processes of the tests start and end.
test: $(VENV)/test-is-installed
	$(MAKE) --jobs=3 lint types tests

lint: $(VENV)/test-is-installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/test-is-installed
	$(BIN)/mypy

tests: $(VENV)/test-is-installed
	$(PYTEST)

quick: $(VENV)/test-is-installed
	$(PYTEST) -m "not slow" tests

slow: $(VENV)/test-is-installed
	$(PYTEST) -m slow tests
	$(PYTEST) metric_learning

docs: $(VENV)/docs-is-installed
	$(BIN)/python -m experiments.reference
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

wheel: $(BIN)/python
	rm -rf dist $(VENV)/light
	$(BIN)/python -m pip install -q --disable-pip-version-check build
	$(BIN)/python -m build --outdir dist .
	$(BIN)/python -m venv $(VENV)/light
	$(VENV)/light/bin/pip install -q --disable-pip-version-check \
	  jax numpy jaxtyping
	$(VENV)/light/bin/pip install -q --no-deps dist/*.whl
	$(VENV)/light/bin/python -I tests/light.py

soak: $(VENV)/test-is-installed
	$(BIN)/python -m tests.soak --minutes=30 --seed=0

format: $(VENV)/test-is-installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) site dist .cache .pytest_cache .mypy_cache .ruff_cache

$(VENV)/compare-is-installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install -q --disable-pip-version-check -e .
	touch $@

$(VENV)/test-is-installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[test]'
	touch $@ $(VENV)/compare-is-installed

$(VENV)/docs-is-installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[docs]'
	touch $@ $(VENV)/compare-is-installed

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo 'error: $(PYTHON) is older than 3.11; say which: make PYTHON=python3.12 …'; exit 2; }
	$(PYTHON) -m venv $(VENV)
