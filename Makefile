# `make compare` and `make test` set themselves up: a virtual environment in
# .venv, made once and brought up to date when pyproject.toml changes.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: compare test format clean

compare: $(VENV)/compare-is-installed
	$(BIN)/python -m experiments.sweep --config=configs/glyphs.py \
	  --sweep=compare --study=runs/glyphs_compare

test: $(VENV)/test-is-installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q -n 2 --dist loadgroup

format: $(VENV)/test-is-installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .cache .pytest_cache .mypy_cache .ruff_cache

$(VENV)/compare-is-installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install -q --disable-pip-version-check -e .
	touch $@

$(VENV)/test-is-installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[test]'
	touch $@ $(VENV)/compare-is-installed

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo 'error: $(PYTHON) is older than 3.11; say which: make PYTHON=python3.12 …'; exit 2; }
	$(PYTHON) -m venv $(VENV)
