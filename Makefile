PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# torch first and alone: its wheel decides which CUDA libraries the rest resolves against
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo test lint format bench clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Aftercall needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) --version 2>&1). Set PYTHON=/path/to/python3.11"; exit 1; }
	@echo "Installing into $(VENV) (once; a few minutes)"
	@$(PYTHON) -m venv $(VENV)
	@$(INSTALL) torch
	@$(INSTALL) -e '.[local]'
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@$(INSTALL) -e '.[local,dev]'
	@touch $@

demo: $(VENV)/.installed ## Score the recordings that ship with the project and show the result
	@$(BIN)/aftercall demo

test: $(VENV)/.installed-dev lint ## Install, lint and run every test
	@TRITON_INTERPRET=1 $(BIN)/python -m pytest

lint: $(VENV)/.installed-dev ## Check style, types and import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(VENV)/.installed-dev ## Format the code
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(VENV)/.installed-dev ## Measure the engine on this machine's CPU
	@$(BIN)/python -m benchmarks.embedded

clean: ## Remove what was installed here; calls stay in the data directory
	rm -rf $(VENV)
