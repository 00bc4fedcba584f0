# make demo: the main job, from device to verified network.  make test: the tests to wait for, make test-slow: the rest.  All install what they need.

RECENT := -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13; do $$p $(RECENT) && { echo $$p; exit; }; done; echo python3)
BIN := .venv/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1
PROCGEN := procgen-mirror gym3 gym gym-notices imageio # which says numpy<2, and works with numpy 2: the tests run it

.PHONY: demo test test-slow test-first test-other test-gpu test-litert test-arm64 lint lint-style lint-mypy lint-pyright clean

demo: .venv/installed
	$(BIN)/unas-hw profile
	$(BIN)/unas-hw search --latency-budget 50%
	$(BIN)/unas-hw train
	$(BIN)/unas-hw export --repair

PYTEST := $(BIN)/python -m pytest
FIRST := $(wildcard tests/unas_hw/test_[eg-z]*.py) # half of the time
IN_TWO = OMP_NUM_THREADS=1 $(MAKE) --no-print-directory -j2 test-first test-other

test: .venv/tested # what times for real has the machine alone, everything else is run in two processes
	$(PYTEST) tests/profilers -m "timing and not slow"
	$(IN_TWO) ONLY="not timing and not slow"

test-slow: .venv/tested # what takes more than five seconds and is not among the first to break
	$(IN_TWO) ONLY=slow

test-first: # the two keep no cache: they would write the same files
	$(PYTEST) -p no:cacheprovider -m "$(ONLY)" $(FIRST)

test-other:
	$(PYTEST) -p no:cacheprovider -m "$(ONLY)" $(FIRST:%=--ignore=%)

test-gpu: .venv/tested # needs an NVIDIA GPU, and a PyTorch for it
	$(PYTEST) -m gpu

test-litert: .venv/tested .venv-litert/installed # the converter's environment is of 2 GB
	UNAS_HW_LITERT_PYTHON=$(CURDIR)/.venv-litert/bin/python $(PYTEST) tests/profilers/test_litert.py

test-arm64: .venv/tested # 0.6 GB, Debian packages and aarch64 wheels; needs sshd
	tests/arm64/setup.sh .arm64 $(BIN)/python
	UNAS_HW_ARM64_ROOT=$(CURDIR)/.arm64 $(PYTEST) tests/profilers/test_arm64.py

lint: lint-style lint-mypy lint-pyright # -j2 runs both type checkers at once

lint-style: .venv/linted
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports

lint-mypy lint-pyright: lint-%: .venv/linted
	$(BIN)/$*

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) $(RECENT) || { echo "unas-hw needs Python 3.11 or newer; $(PYTHON) is: $$($(PYTHON) --version 2>&1)."; \
	echo "  mend: install it (Debian, Ubuntu: apt-get install python3.11 python3.11-venv) or name one: make demo PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --no-compile --constraint constraints.txt --editable .
	@touch $@

.venv/tested: .venv/installed
	$(BIN)/pip install --quiet --no-compile --constraint constraints.txt --editable '.[test]'
	$(BIN)/pip install --quiet --no-compile --constraint constraints.txt --no-deps $(PROCGEN)
	@touch $@

.venv/linted: .venv/installed
	$(BIN)/pip install --quiet --no-compile --constraint constraints.txt --editable '.[lint]'
	@touch $@

.venv-litert/installed: constraints-litert.txt
	$(PYTHON) -m venv .venv-litert
	.venv-litert/bin/pip install --quiet --no-compile --constraint constraints-litert.txt litert-torch torch
	@touch $@

clean:
	rm -rf .venv .venv-litert .arm64 build dist *.egg-info
