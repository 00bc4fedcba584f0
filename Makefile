# make demo: the main job, from device to verified network.  make test: the tests.  Both install what they need.

RECENT := -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13; do $$p $(RECENT) && { echo $$p; exit; }; done; echo python3)
BIN := .venv/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test lint clean

demo: .venv/installed
	$(BIN)/unas-hw profile
	$(BIN)/unas-hw search --latency-budget 50%
	$(BIN)/unas-hw train
	$(BIN)/unas-hw export

test: .venv/tested
	$(BIN)/python -m pytest

lint: .venv/linted
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pyright
	$(BIN)/lint-imports

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) $(RECENT) || { echo "unas-hw needs Python 3.11 or newer; $(PYTHON) is: $$($(PYTHON) --version 2>&1)."; \
	echo "  mend: install it (Debian, Ubuntu: apt-get install python3.11 python3.11-venv) or name one: make demo PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .
	@touch $@

.venv/tested: .venv/installed
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[test]'
	@touch $@

.venv/linted: .venv/installed
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[lint]'
	@touch $@

clean:
	rm -rf .venv build dist *.egg-info
