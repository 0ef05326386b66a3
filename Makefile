# Two commands: `make demo` and `make test`. Each does all the set-up on a fresh machine with Python 3.11 and gcc.
PYTHON ?= python3
BIN := .venv/bin
export OMP_NUM_THREADS ?= 1

.PHONY: demo test lint setup clean
.DEFAULT_GOAL := help

help:
	@echo "make demo   set up, then: videos -> tokenizer -> latents -> world model -> generated video (in demo/)"
	@echo "make test   set up, then: linters and tests"
	@echo "make lint   linters only"

setup: .venv/.installed

# The stamp depends on pyproject.toml alone: a changed dependency installs again, a changed source file does not.
.venv/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; v=sys.version_info; sys.exit(None if (3,10)<=v[:2]<=(3,12) else "error: Python %d.%d found, 3.10 to 3.12 needed; run make PYTHON=python3.11" % v[:2])'
	@echo "setting up .venv (first time only: about 3 GB, a few minutes)"
	@start=$$(date +%s); \
	  test -x $(BIN)/python || $(PYTHON) -m venv .venv; \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]' && \
	  touch $@ && echo "environment ready in $$(( $$(date +%s) - start )) s"

demo: setup
	@PATH="$(CURDIR)/$(BIN):$$PATH" bash scripts/demo.sh

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(BIN)/codespell

test: lint
	$(BIN)/python -m pytest

clean:
	rm -rf demo .pytest_cache .ruff_cache .mypy_cache .import_linter_cache
