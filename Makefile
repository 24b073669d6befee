# `make demo` and `make test` work on a fresh machine with Python 3.11: each sets up .venv itself.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test docs lint bench format clean

INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

# Installed again only when the dependencies change; what the demo needs is part of the rest.
$(VENV)/.demo: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(INSTALL) -e '.[train]'
	touch $@

$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(INSTALL) -e '.[dev]'
	touch $(VENV)/.demo $@

demo: $(VENV)/.demo  ## Train, evaluate, report and predict on a synthetic corpus.
	$(BIN)/vavl demo

test: $(VENV)/.installed  ## All tests; those that need the shared research data skip without it.
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

# The tools of the site are of no use for the tests, and are installed when they are needed.
$(VENV)/.installed-docs: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	touch $@

docs: $(VENV)/.installed-docs  ## The site, in build/docs; runs the tutorials. Needs no network.
	OMP_NUM_THREADS=1 $(BIN)/python -m sphinx -W -n --keep-going docs build/docs

lint: $(VENV)/.installed  ## Style and types.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed  ## Mend what can be mended.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.installed  ## Measure speed; JSON on standard output.
	$(BIN)/python benchmarks/train_step.py
	$(BIN)/python benchmarks/scaling.py
	$(BIN)/python benchmarks/export.py

clean:  ## Remove what make made.
	rm -rf $(VENV) demo build dist
