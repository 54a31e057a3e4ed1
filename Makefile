# Two commands: `make demo` and `make test`. Each creates .venv with what it needs; nothing else is installed by hand.
PYTHON ?= python3
# The exact version is installed first, so that no dependency pulls in another build of torch.
# For a machine with a GPU, or for a smaller CPU build: make demo TORCH="torch==2.13.0 --index-url https://..."
TORCH ?= torch==2.13.0
ARGS ?=
BIN := .venv/bin

.PHONY: demo test lint bench clean help
.DEFAULT_GOAL := help

help:
	@echo 'make demo [ARGS="--for 60s"]   watch the bundled camera footage'
	@echo 'make test [ARGS="-k memory"]   run the tests (with a real Kafka when KAFKA_HOME is set)'
	@echo 'make lint                      ruff and mypy'
	@echo 'make bench [ARGS="--list"]     every figure of the README'
	@echo 'make clean                     remove .venv and caches'

demo: .venv/installed
	$(BIN)/standwatch demo $(ARGS)

# Two files at a time, because tests wait more than they work; ARGS="-n 0" is one after another.
test: .venv/installed
	$(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/installed
	$(BIN)/python -m benchmarks $(ARGS)

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist *.egg-info

# Made anew whenever pyproject.toml changes.
.venv/installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	    { echo "Standwatch needs Python 3.10 or newer; this is $$($(PYTHON) --version). Use: make PYTHON=python3.12 ..."; exit 1; }
	@echo 'creating .venv with what is needed; this takes a few minutes once ...'
	@$(PYTHON) -m venv --clear .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check $(TORCH)
	@PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	@touch $@
