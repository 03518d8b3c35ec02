# Every target makes what it needs, and is quick the second time. Needs Python 3.11 or newer and nothing else.
PYTHON ?= python3
BIN := .venv/bin
STEPS ?= 6
SAMPLE ?= 400
SEED ?= 0
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist worksteal
# Python compiles a module when it is first imported and keeps that; to compile all that is installed takes a minute more.
COMPILE := $(if $(PYTHONDONTWRITEBYTECODE),--compile,--no-compile)
INSTALL := $(BIN)/pip install --disable-pip-version-check --no-input $(COMPILE) -c constraints.txt
comma := ,
space := $(subst ,, )
CORE := functional objectives bandits proving
CORE_COVER := $(CORE:%=--cov=klimb.%) --cov-report=
CORE_DATA := $(CURDIR)/.coverage-core
CORE_REPORT := $(BIN)/coverage report --include="$(subst $(space),$(comma),$(CORE:%=src/klimb/%/*))" --skip-covered --fail-under=100
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test test-all check format bench mutants docs clean .venv
.DELETE_ON_ERROR:

demo: .venv/runtime.stamp  ## a 135M-parameter model learns sums from a checked reward
	$(BIN)/klimb pull smollm2-135m
	$(BIN)/klimb train recipes/demo.yaml

test: .venv/dev.stamp  ## what CI runs: lint, types, the fast tests, and the core's coverage
	@$(MAKE) --no-print-directory -j 2 check quick
	@$(MAKE) --no-print-directory cover-core

.PHONY: quick cover cover-core
quick:
	COVERAGE_FILE=$(CORE_DATA) $(PYTEST) $(CORE_COVER) -m "not slow and not model"

test-all: check  ## also the slow tests and those that need the 135M model (pulled if it is not there), and all coverage
	$(BIN)/klimb pull smollm2-135m
	$(PYTEST) --cov=klimb --cov-report=
	@$(MAKE) --no-print-directory cover
	$(CORE_REPORT)

cover: .venv/dev.stamp
	$(BIN)/coverage report --skip-covered --fail-under=90

cover-core: .venv/dev.stamp
	$(CORE_REPORT) --data-file=$(CORE_DATA)

check: .venv/dev.stamp  ## lint, format, types, and which way imports run
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: .venv/dev.stamp
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: .venv/runtime.stamp  ## side by side with TRL, in one run (STEPS=n; about two minutes a step)
	$(BIN)/klimb pull smollm2-135m
	$(BIN)/python bench/rlvr_vs_trl.py --steps $(STEPS)

mutants: .venv/dev.stamp  ## does a test notice each small change of the core? (SAMPLE=0: all of them; SEED=n)
	$(INSTALL) -q -e ".[mutants]"
	$(BIN)/python bench/mutants.py --sample $(SAMPLE) --seed $(SEED)

docs: .venv/dev.stamp  ## the site, in site/
	$(BIN)/properdocs build --strict --quiet --config-file mkdocs.yml
	@echo "docs: site/index.html"

clean:
	rm -rf .venv .trl-venv .mutants site build dist htmlcov .coverage* .mypy_cache .ruff_cache .pytest_cache .hypothesis \
		.import_linter_cache
	find . -name __pycache__ -type d -not -path "./.git/*" -prune -exec rm -rf {} +

.venv: .venv/dev.stamp

.venv/torch.stamp: constraints.txt
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" || \
		{ echo "klimb needs Python 3.11 or newer; found: $$($(PYTHON) --version); try: make PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -c "import ensurepip, venv" 2>/dev/null || \
		{ echo "Python's venv is missing; try: apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(INSTALL) "$$(grep ^torch== constraints.txt)"
	@touch $@

.venv/runtime.stamp: .venv/torch.stamp pyproject.toml
	$(INSTALL) -q -e .
	@touch $@

.venv/dev.stamp: .venv/torch.stamp pyproject.toml  # all at once: what is there already is not looked at again
	$(INSTALL) -q -e ".[dev,docs]"
	@touch .venv/runtime.stamp $@
