# Everything starts here: `make serve` and `make test` need Python >= 3.11 and make, nothing else.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
# Two tests at a time, each on one thread; those that take longest give away what waits behind them.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist worksteal
# Tests over whole data sets run where LATENTD_DATA names their folder.
DATA_MARK := $(if $(LATENTD_DATA),,and not data)
# The benchmarks of the service; the others fit models first, or need a fitted one.
BENCHES := concurrent neighbour overload sampling serving startup
COVERAGE := --cov --cov-report=term --cov-fail-under=90

.PHONY: serve test test-all check format bench train clean

serve: $(VENV)/service.installed
	@exec $(BIN)/python -m service

test: $(VENV)/dev.installed
	$(PYTEST) -m "not slow $(DATA_MARK)" $(COVERAGE)

test-all: $(VENV)/dev.installed
	$(PYTEST) $(if $(LATENTD_DATA),,-m "not data") $(COVERAGE)

check: $(VENV)/dev.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint Dockerfile

format: $(VENV)/dev.installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/dev.installed
	@for name in $(BENCHES); do echo "== bench_$$name"; $(BIN)/python -m bench.bench_$$name || exit 1; done

# make train RECIPE=training/recipes/digits-vae.toml ARGS="--data.root PATH"
train: $(VENV)/training.installed
	@test -n "$(RECIPE)" || { echo "which recipe? make train RECIPE=training/recipes/digits-vae.toml"; exit 2; }
	$(BIN)/python -m training fit $(RECIPE) $(ARGS)

# Larger groups contain the smaller ones, so installing one marks those too.
$(VENV)/service.installed: pyproject.toml constraints.txt | $(VENV)/pip.installed
	$(PIP_INSTALL) --group service
	@touch $@

$(VENV)/training.installed: pyproject.toml constraints.txt | $(VENV)/pip.installed
	$(PIP_INSTALL) --group training
	@touch $@ $(VENV)/service.installed

$(VENV)/dev.installed: pyproject.toml constraints.txt | $(VENV)/pip.installed
	$(PIP_INSTALL) --group dev
	@touch $@ $(VENV)/training.installed $(VENV)/service.installed

# Dependency groups need pip 25.1 or newer.
$(VENV)/pip.installed:
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "latentd needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
	@touch $@

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage
