# Every task of a developer, on a bare clone: needs only Python 3.11 or later and make.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help demo test test-all lint format bench clean

help:  ## show this
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/'

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Lockstep needs Python 3.11 or later; set PYTHON=…"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $(READY)

demo: $(READY)  ## embed the standard library's documentation and search it
	$(BIN)/lockstep demo

test: $(READY)  ## the quick tests
	$(BIN)/python -m pytest -n auto tests/unit tests/contract tests/architecture

test-all: $(READY)  ## every test: real databases, killed processes, faults, properties, the installed command
	$(BIN)/python -m pytest -n auto

lint: $(READY)  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)  ## put the code into its form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY)  ## measure; results go to bench/results
	$(BIN)/python -m bench

clean:  ## remove what make made
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
