# `make train` and `make test` work on a fresh machine: they make .venv and install what is needed.
# PYTHON and TORCH can be set, a CUDA build where the index has one: make test-fast PYTHON=python3.13 TORCH="torch==2.14.1".
PYTHON ?= python3
TORCH ?= torch==2.13.0
# of `make train`: paper or robust
RECIPE ?= paper
# of `make experiment`: quick, cpu or paper
SCALE ?= quick
BUNDLE := bundles/subtomogram
CONFIGS := $(BUNDLE)/configs
LAID_OVER_paper :=
LAID_OVER_robust := '$(CONFIGS)/robust.yaml',
$(if $(filter $(RECIPE),paper robust),,$(error RECIPE must be paper or robust, got $(RECIPE)))
BIN := .venv/bin
STAMP := .venv/installed
# a worker for each processor, of one thread; a file's tests stay together, for they share what they have made
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder

.PHONY: train test test-fast coverage experiment lint clean setup
setup: $(STAMP)

$(STAMP): pyproject.toml Makefile
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -qq --disable-pip-version-check "$(TORCH)"
	$(BIN)/python -m pip install -qq --disable-pip-version-check -e ".[dev]"
	touch $@

train: $(STAMP)
	$(BIN)/python -m monai.bundle run training --bundle_root $(BUNDLE) \
	  --logging_file $(CONFIGS)/logging.conf \
	  --config_file "['$(CONFIGS)/train.yaml',$(LAID_OVER_$(RECIPE))'$(CONFIGS)/quick.yaml']"

test: $(STAMP)
	$(PYTEST)

test-fast: $(STAMP)
	$(PYTEST) -m "not slow"

coverage: $(STAMP)
	$(PYTEST) --cov --cov-report=term

experiment: $(STAMP)
	$(BIN)/python -m monai_cryo experiment --scale $(SCALE)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf .venv .coverage* build dist runs .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
