# `make serve` and `make test` are all that a newcomer needs. HOST=, PORT= and MODEL= choose what is served where.
SHELL := /bin/bash
.DEFAULT_GOAL := help

HOST ?= 127.0.0.1
PORT ?= 11434
MODEL ?= models/demo

PYTHON ?= python3
VENV := .venv
UV := $(VENV)/bin/uv
UV_VERSION := 0.11.33

# Other people's clients, which tests/compat runs: they live apart from .venv. Without npm its test is skipped.
CLIENTS := .venv-clients
NPM := tests/compat/npm
NPM_CLIENTS := $(if $(shell command -v npm),$(NPM)/node_modules/.package-lock.json)

# A CUDA machine gets vLLM itself, any other its CPU build. ENGINE=cpu or ENGINE=cuda overrides what nvidia-smi says.
ENGINE ?= $(shell nvidia-smi -L 2>/dev/null | grep -q GPU && echo cuda || echo cpu)
ifeq ($(ENGINE),cuda)
REQUIREMENTS := requirements.txt
INSTALL_FLAGS :=
else
REQUIREMENTS := requirements-cpu.txt
# The CPU wheel of torch lies where PIP_FIND_LINKS says, else on PyTorch's own index, which uv knows as a backend.
INSTALL_FLAGS := --excludes requirements-cpu-excludes.txt \
	$(if $(PIP_FIND_LINKS),$(foreach place,$(PIP_FIND_LINKS),--find-links $(place)),--torch-backend cpu)
endif

.PHONY: help serve test bench soak faults lint install install-dev clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

serve: install ## serve MODEL on HOST:PORT, engine and all; Ctrl-C stops every process
	@echo "Starting. The model is loaded next; on a CPU that takes 15 to 60 seconds."
	@HOST=$(HOST) PORT=$(PORT) MODEL=$(MODEL) exec $(VENV)/bin/gunicorn -c gunicorn.conf.py wsgi:app

# Tests that share an engine or do harm to one go one after the other (tests/conftest.py).
test: lint ## the whole suite, the real engine included
	$(VENV)/bin/python -m pytest -n 2 --no-loadscope-reorder

bench: $(VENV)/installed-bench ## this server beside vLLM's own: 15 minutes, writes bench/RESULTS.md; BENCH=--quick: 3 minutes
	$(VENV)/bin/python -m bench $(BENCH)

soak: install-dev ## ten minutes of everything at once, and what grows; SOAK="--minutes 60"
	$(VENV)/bin/python -m tests.soak $(SOAK)

faults: install-dev ## every fault that the README tells of, and its table of them
	$(VENV)/bin/python -m pytest tests/faults --write-faults

lint: install-dev ## ruff, and mypy --strict on service/
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

install: $(VENV)/installed-$(ENGINE) ## the web tier and vLLM, into .venv

install-dev: $(VENV)/installed-dev $(CLIENTS)/installed $(NPM_CLIENTS) ## and what the tests need

$(VENV)/installed-$(ENGINE): requirements-web.txt $(REQUIREMENTS) requirements-cpu-excludes.txt | $(UV)
	@echo "Installing the web tier and vLLM for $(ENGINE): 2 to 8 GB, a minute or several. This happens once."
	$(UV) pip install --python $(VENV)/bin/python --compile-bytecode $(INSTALL_FLAGS) -r $(REQUIREMENTS)
	@touch $@

$(VENV)/installed-dev: requirements-dev.txt $(VENV)/installed-$(ENGINE)
	$(UV) pip install --python $(VENV)/bin/python -r requirements-dev.txt
	@touch $@

$(VENV)/installed-bench: requirements-bench.txt $(VENV)/installed-$(ENGINE)
	$(UV) pip install --python $(VENV)/bin/python -r requirements-bench.txt
	@touch $@

$(CLIENTS)/installed: requirements-clients.txt | $(UV)
	$(UV) venv --quiet --clear --python $(VENV)/bin/python $(CLIENTS)
	$(UV) pip install --python $(CLIENTS)/bin/python -r requirements-clients.txt
	@touch $@

$(NPM)/node_modules/.package-lock.json: $(NPM)/package.json $(NPM)/package-lock.json
	npm ci --no-audit --no-fund --prefix $(NPM)
	@touch $@

$(UV):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or later is needed; name it: make PYTHON=/path/to/python3.12"; exit 1; }
	@echo "Making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV) || \
		{ rm -rf $(VENV); echo "This Python can't make virtual environments. On Debian: apt install python3-venv"; exit 1; }
	$(VENV)/bin/python -m pip install --quiet uv==$(UV_VERSION)

clean: ## remove what was installed and cached
	rm -rf $(VENV) $(CLIENTS) $(NPM)/node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
