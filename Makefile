# `make check` is all that a first change needs, `make serve` all that a first answer needs.
# HOST=, PORT= and MODEL= choose what `make serve` serves, and where.
SHELL := /bin/bash
.DEFAULT_GOAL := help

HOST ?= 127.0.0.1
PORT ?= 11434
MODEL ?= models/demo

PYTHON ?= python3
VENV := .venv
UV := $(VENV)/bin/uv
UV_VERSION := 0.11.33
RUN := $(VENV)/bin/python -m
PYTEST := $(RUN) pytest

# Other people's clients, for tests/compat: they have an environment of their own. Without npm its test is skipped.
CLIENTS := .venv-clients
NPM := tests/compat/npm
NPM_CLIENTS := $(if $(shell command -v npm),$(NPM)/node_modules/.package-lock.json)
# Agents of other people, 800 MB. Without npm their tests are skipped.
AGENTS := tests/compat/agents/npm
# Libraries for agents. They conflict with vLLM and with the other clients.
LIBRARIES := .venv-agents
NPM_AGENTS := $(if $(shell command -v npm),$(AGENTS)/node_modules/.package-lock.json)

# Open WebUI, 3 GB. Without it its tests are skipped.
WEBUI := .venv-open-webui

# Ray and what `make check` installs. Without Ray in .venv the tests show that nothing else needs it.
RAY := .venv-ray

# vLLM and Ray. .venv has no Ray, so that its tests show that only a cluster needs it.
CLUSTER := .venv-cluster

# The tools that build the documentation site. Their own environment keeps .venv as an operator has it.
DOCS := .venv-docs

# A machine with an NVIDIA GPU gets vLLM itself, any other machine gets vLLM's CPU build. ENGINE=cpu and ENGINE=cuda
# override what nvidia-smi reports.
ENGINE ?= $(shell nvidia-smi -L 2>/dev/null | grep -q GPU && echo cuda || echo cpu)
ifeq ($(ENGINE),cuda)
REQUIREMENTS := requirements.txt
INSTALL_FLAGS :=
else
REQUIREMENTS := requirements/cpu.txt
# The CPU wheel of torch is taken from PIP_FIND_LINKS when that is set, else from PyTorch's own index.
INSTALL_FLAGS := --excludes requirements/cpu-excludes.txt \
	$(if $(PIP_FIND_LINKS),$(foreach place,$(PIP_FIND_LINKS),--find-links $(place)),--torch-backend cpu)
endif

# Groups of tests that `make test` leaves to targets of their own, because they take long or install much.
HEAVY := $(foreach group,faults cluster legacy compat/agents compat/open_webui page,--ignore tests/$(group))

# Compares how long a client waits with how long it waits without an attack, so nothing else may run beside it.
ALONE := tests/hostile/test_victim.py
# What `make test-faults` does about docs/reference/faults.md.
FAULTS ?= --write-faults

# mypy gives its workers three seconds to start, and ends with status 2 where a busy machine takes longer.
MYPY := $(RUN) mypy --num-workers 2 || { [ $$? = 2 ] && $(RUN) mypy; }

.PHONY: help check test test-http test-engine test-compat test-deploy test-faults test-cluster test-hostile test-legacy \
	test-agents test-open-webui test-page test-ray cluster docs site bench soak serve install install-dev clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

serve: install ## serve MODEL on HOST:PORT, with an engine; Ctrl-C stops all of it
	@MODEL=$(MODEL) exec $(VENV)/bin/vllm-wsgi serve --host $(HOST) --port $(PORT)

install: $(VENV)/installed-$(ENGINE) $(VENV)/bin/vllm-wsgi ## install the web tier, vLLM and the command vllm-wsgi into .venv

check: $(VENV)/installed-check ## lint, types, unit tests and documentation: no vLLM, less than a minute
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(MYPY)
	$(PYTEST) tests/unit tests/docs -q -n auto

# Tests that share an engine, or that do harm to one, run one after the other (tests/conftest.py).
test: install-dev ## lint, types and every test but the heavy groups: under 15 minutes
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(MYPY)
	$(PYTEST) -n 2 --no-loadscope-reorder $(HEAVY) --ignore $(ALONE)
	$(PYTEST) $(ALONE)

test-http: $(VENV)/installed-check ## a scripted engine over real HTTP: no vLLM
	$(PYTEST) tests/http -n 2 --no-loadscope-reorder

test-engine: install-dev ## vLLM with the demo model
	$(PYTEST) tests/engine

test-compat: install-dev ## other people's clients, against vLLM with the demo model
	$(PYTEST) tests/compat

test-deploy: install-dev ## the proxies, the systemd units and the wheel
	$(PYTEST) tests/deploy

# Without root, or where no network namespaces can be made, all but one test are skipped.
test-cluster: $(VENV)/installed-check ## a web and an engine machine on a network that fails: no vLLM, under three minutes
	$(PYTEST) tests/cluster --ignore tests/cluster/ray --ignore tests/cluster/vllm

# Ray's own processes need half a gigabyte and, on two cores, a minute to start.
test-ray: $(RAY)/installed ## engine workers on a Ray cluster of this machine: no vLLM, two to five minutes
	$(RAY)/bin/python -m pytest tests/cluster/ray

# GPUs that do not exist are enough for vLLM's CPU build. An environment of its own, with 3 GB.
cluster: ## vLLM on a Ray cluster of this machine that is harmed: a quarter of an hour
	$(MAKE) VENV=$(CLUSTER) ENGINE=cpu $(CLUSTER)/installed-cluster
	$(CLUSTER)/bin/python -m pytest tests/cluster/vllm -s

# Interpreters come from PATH or pyenv, packages by uv into .venv-legacy/, which is kept. A missing one is skipped.
test-legacy: $(VENV)/installed-check ## old Pythons, Flasks, servers and extensions: no vLLM; LEGACY="-n 0 --write-servers"
	$(PYTEST) tests/legacy -n 2 --no-loadscope-reorder $(LEGACY)

test-agents: $(VENV)/installed-check $(NPM_AGENTS) $(LIBRARIES)/installed ## Codex CLI, Claude Code and others as they ship: no vLLM
	$(PYTEST) tests/compat/agents

test-open-webui: $(VENV)/installed-check $(WEBUI)/installed ## Open WebUI as pip installs it, in Chromium: no vLLM
	$(UV) pip install --python $(VENV)/bin/python -r requirements/page.txt
	$(PYTEST) tests/compat/open_webui

# The browser is Debian's `chromium`; without it the tests are skipped.
test-page: $(VENV)/installed-check ## the web page in Chromium: no vLLM
	$(UV) pip install --python $(VENV)/bin/python -r requirements/page.txt
	$(if $(shell command -v npm),npm ci --no-audit --no-fund --prefix tests/page/npm)
	$(PYTEST) tests/page

test-faults: install-dev ## kills, stalls and floods; writes docs/reference/faults.md, but with FAULTS= only compares it
	$(PYTEST) tests/faults $(FAULTS)

test-hostile: install-dev ## one key attacks for a minute, and another one's client asks on
	HOSTILE_SECONDS=60 $(PYTEST) tests/hostile -s

docs: $(VENV)/installed-check ## write the generated pages of docs/reference and deploy/systemd/vllm-wsgi.env
	$(RUN) tests.docs.reference

site: $(DOCS)/installed ## build the documentation site into site/
	NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/python -m mkdocs build --strict

bench: $(VENV)/installed-bench $(LIBRARIES)/installed ## compare with vLLM's own servers: 20 minutes, writes bench/RESULTS.md; BENCH=--quick: 3 minutes
	$(RUN) bench $(BENCH)

soak: install-dev ## ten minutes of everything at once, and what grows; SOAK="--minutes 60"
	$(RUN) tests.soak $(SOAK)

install-dev: install $(VENV)/installed-dev $(DOCS)/installed $(CLIENTS)/installed $(NPM_CLIENTS) ## install what the tests need, too

clean: ## remove what was installed, built and cached
	rm -rf $(VENV) .venv-legacy $(CLIENTS) $(LIBRARIES) $(WEBUI) $(DOCS) $(RAY) $(CLUSTER) $(NPM)/node_modules $(AGENTS)/node_modules
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis
	rm -rf build dist site *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/installed-check: requirements/check.txt requirements/web.txt requirements/otel.txt | $(UV)
	$(UV) pip install --python $(VENV)/bin/python -r requirements/check.txt
	@touch $@

$(VENV)/installed-$(ENGINE): requirements/web.txt $(REQUIREMENTS) requirements/cpu-excludes.txt | $(UV)
	@echo "Installing the web tier and vLLM for $(ENGINE): 2 to 8 GB, a minute or several. This happens once."
	$(UV) pip install --python $(VENV)/bin/python --compile-bytecode $(INSTALL_FLAGS) -r $(REQUIREMENTS)
	@touch $@

# The command of this checkout. A wheel has a console script of the same name instead.
$(VENV)/bin/vllm-wsgi: deploy/vllm-wsgi | $(UV)
	install -m 755 $< $@

$(VENV)/installed-dev: requirements/dev.txt requirements/check.txt $(VENV)/installed-$(ENGINE)
	$(UV) pip install --python $(VENV)/bin/python -r requirements/dev.txt
	@touch $@

$(VENV)/installed-cluster: requirements/ray.txt $(VENV)/installed-dev
	$(UV) pip install --python $(VENV)/bin/python -r requirements/ray.txt
	@touch $@

$(VENV)/installed-bench: requirements/bench.txt $(VENV)/installed-$(ENGINE)
	$(UV) pip install --python $(VENV)/bin/python -r requirements/bench.txt
	@touch $@

$(CLIENTS)/installed: requirements/clients.txt | $(UV)
	$(UV) venv --quiet --clear --python $(VENV)/bin/python $(CLIENTS)
	$(UV) pip install --python $(CLIENTS)/bin/python -r requirements/clients.txt
	@touch $@

$(LIBRARIES)/installed: requirements/agents.txt | $(UV)
	$(UV) venv --quiet --clear --python $(VENV)/bin/python $(LIBRARIES)
	$(UV) pip install --python $(LIBRARIES)/bin/python $(INSTALL_FLAGS) -r requirements/agents.txt
	@touch $@

$(WEBUI)/installed: requirements/open-webui.txt | $(UV)
	$(UV) venv --quiet --clear --python $(VENV)/bin/python $(WEBUI)
	$(UV) pip install --python $(WEBUI)/bin/python $(INSTALL_FLAGS) -r requirements/open-webui.txt
	@touch $@

$(RAY)/installed: requirements/ray.txt requirements/check.txt requirements/web.txt requirements/otel.txt | $(UV)
	$(UV) venv --quiet --clear --python $(VENV)/bin/python $(RAY)
	$(UV) pip install --python $(RAY)/bin/python -r requirements/check.txt -r requirements/ray.txt
	@touch $@

$(DOCS)/installed: requirements/docs.txt | $(UV)
	$(UV) venv --quiet --clear --python $(VENV)/bin/python $(DOCS)
	$(UV) pip install --python $(DOCS)/bin/python -r requirements/docs.txt
	@touch $@

# The agents' own scripts are not run: they only choose a program for the platform, which node does as well.
$(AGENTS)/node_modules/.package-lock.json: $(AGENTS)/package.json $(AGENTS)/package-lock.json
	npm ci --no-audit --no-fund --ignore-scripts --prefix $(AGENTS)
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
