# Everything runs from .venv; each target does the set-up it needs.
SHELL := /bin/bash
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: install run test check bench gpu traces texts format clean

install: $(STAMP)

# pip, not uv: pip takes the CPU build of torch where only that is offered.
$(STAMP): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

run: $(STAMP)
	@$(BIN)/gpuwatch demo

test: $(STAMP)
	$(BIN)/python -m pytest -n auto --dist loadgroup $(PYTEST_ARGS)

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q tests/package

bench: $(STAMP)
	$(BIN)/python -m benchmarks

gpu: $(STAMP)
	$(BIN)/python -m benchmarks.gpu

# What the networks do to memory, for predict and fit: needs torch, no GPU; some minutes.
traces: $(STAMP)
	$(BIN)/python -m gpuwatch_runner.tracing

# The catalogues: strings out of the code, Chinese into the .po, .po into .mo.
texts: $(STAMP)
	$(BIN)/python -m tests.package.catalogue

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache
