# Everything lives in .venv; nothing else has to be installed by hand. Linux, Python 3.11 to 3.13.
PYTHON ?= python3
HOST ?= 127.0.0.1
PORT ?= 8000
CONFIG ?= configs/default.yaml
# Tests run in so many processes.
WORKERS ?= 3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
STREAMSEG := $(BIN)/streamseg

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev serve test lint format types unit firefox browser rtsp-server schema clean

help: ## Show the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

setup: $(VENV)/.ready ## Set up .venv to run the service

setup-dev: $(VENV)/.ready-dev ## ... and to test it

serve: setup ## Run the service (HOST=, PORT=, CONFIG=)
	@echo "loading streamseg ..." >&2
	@$(STREAMSEG) serve --config $(CONFIG) --host $(HOST) --port $(PORT)

test: lint types unit ## Lint, check types and run every test

lint: setup-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: setup-dev ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: setup-dev
	$(BIN)/mypy

unit: setup-dev browser rtsp-server
	OMP_WAIT_POLICY=passive $(BIN)/python -m pytest -m "not slow and not gpu and not firefox" -n $(WORKERS) --dist loadfile

firefox: setup-dev ## Test the page in Firefox too
	@tests/e2e/install_browser.sh firefox-esr || true
	$(BIN)/python -m pytest -m firefox tests/e2e

browser:
	@tests/e2e/install_browser.sh chromium || true

rtsp-server:
	@tests/media/install_rtsp_server.sh || true

schema: setup-dev ## Write docs/protocol.schema.json
	$(BIN)/python -m streamseg.service.protocol > docs/protocol.schema.json

clean: ## Remove .venv and caches
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' \
	  || { echo "streamseg needs Python 3.11 to 3.13; $(PYTHON) is $$($(PYTHON) --version 2>&1). Set PYTHON=." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

# sam2 is built without its CUDA extension and against the torch that is already there: build isolation would download
# torch a second time.
$(VENV)/.torch: constraints.txt | $(VENV)/.python
	@echo "Setting up $(VENV): about 5 GB are downloaded and unpacked once, a few minutes."
	$(PIP) install --quiet --constraint constraints.txt pip setuptools wheel
	$(PIP) install --quiet --constraint constraints.txt torch torchvision
	SAM2_BUILD_CUDA=0 $(PIP) install --quiet --no-build-isolation --constraint constraints.txt sam2
	@touch $@

$(VENV)/.ready: $(VENV)/.torch pyproject.toml
	$(PIP) install --quiet --constraint constraints.txt --editable .
	@$(BIN)/python scripts/check_install.py
	@touch $@

$(VENV)/.ready-dev: $(VENV)/.ready
	$(PIP) install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@
