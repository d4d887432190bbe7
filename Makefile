# All tasks of the project. Targets such as `run` and `test` first install what they need into .venv.

SHELL   := /bin/bash
.SHELLFLAGS := -o pipefail -c
VENV    := .venv
PY      := $(VENV)/bin/python
# The first interpreter that is new enough. Override it with `make PYTHON=/path/to/python …`.
PYTHON  ?= $(shell for p in python3 python python3.13 python3.12 python3.11 python3.14; do \
             $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)

# Keep compiled bytecode, because a test run starts hundreds of processes.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help run serve demo wheel first-minute test all-tests test-fast fuzz chaos browser pgbouncer prometheus image-test frameworks fresh-test lint bench bench-job bench-scoring bench-ledger bench-backtest bench-finetune nano combination settings docs lock release clean

help: ## Show this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(VENV)/.run ## Run the nightly job on this machine: real candles, a local Space, SQLite (kronos.db)
	@$(VENV)/bin/kronosbot run --local --source sample

PORT ?= 7860
serve: $(VENV)/.run ## Start a Space on http://127.0.0.1:7860 (PORT=… for another port; KRONOS_MODEL=auto unless set)
	@KRONOS_MODEL=$${KRONOS_MODEL:-auto} $(PY) -m kronos_space --host 127.0.0.1 --port $(PORT)

# Many tests wait for a process, so run four workers on two cores.
WORKERS ?= $(shell n=$$($(PYTHON) -c 'import os; print(len(os.sched_getaffinity(0)))' 2>/dev/null || echo 2); echo $$((n < 4 ? n * 2 : 6)))

demo: $(VENV)/.run ## Write a full report, demo/report.html, of a backtest of the sample's last 150 sessions (a minute)
	@mkdir -p demo
	@KRONOS_MODEL=$${KRONOS_MODEL:-kronos-nano} $(VENV)/bin/kronosbot backtest --local --source sample --windows 150 --stride 1 --out demo/backtest.csv
	@$(VENV)/bin/kronosbot report --backtest demo/backtest.csv --out demo/report.html
	@echo "open demo/report.html in a browser"

test: $(VENV)/.dev ## Check style and types, build the docs, and run every test
	@$(MAKE) --no-print-directory -j3 lint docs all-tests

all-tests: prometheus
	@$(PY) -m pytest -n $(WORKERS) --dist worksteal

test-fast: $(VENV)/.dev ## Run the fast tests, which start no process, no browser and no Postgres
	@$(PY) -m pytest tests/unit tests/public -n auto --maxprocesses 4 --dist worksteal \
	  -m "not (integration or browser or chart or chaos or docs or slow)"

# A Chromium for the tests of the pages. Without it only these tests fail.
browser: $(VENV)/.dev
	@$(PY) -m tests.support.browser || true

# A pgbouncer for the tests of the locks. After the browser, because both may call apt-get.
pgbouncer: browser
	@$(PY) -m tests.support.pgbouncer || true

# A Prometheus for the tests of metrics, alerts and dashboard.
prometheus: pgbouncer
	@$(PY) -m tests.support.prometheus || true

fuzz: $(VENV)/.dev ## Send thousands of generated requests to a separate Space (FUZZ="--requests 5000 --seed 7", "--attack")
	@$(PY) -m tests.support.fuzz $(FUZZ)
	@$(if $(findstring --attack,$(FUZZ)),$(PY) -m tests.support.hostile $(FUZZ))

chaos: $(VENV)/.dev ## Run the nightly job through 360 schedules of faults (CHAOS="--schedules 9 --seed 7")
	@$(PY) -m tests.chaos.chaos $(CHAOS)

# A single command may take minutes here; elsewhere a test of five minutes counts as hanging.
LONG := -o faulthandler_timeout=0

image-test: $(VENV)/.dev ## Build and run the images of the Space and the bots (as root on Debian; minutes)
	@$(PY) -m pytest $(LONG) -s tests/images/space_image.py tests/images/bots_image.py

frameworks: $(VENV)/.dev ## Run the examples for freqtrade and vectorbt with the real libraries, in separate environments
	@$(PY) -m pytest $(LONG) -s tests/frameworks/other_frameworks.py

fresh-test: $(VENV)/.dev ## Run `make run` and `make test` on bare Debian 12 and 13 (as root; half an hour)
	@$(PY) -m pytest $(LONG) -s tests/images/fresh_machines.py

lint: $(VENV)/.dev ## Check style, types, words, import contracts, and GitHub's workflows
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) scripts/words.py
	@$(PY) -m mypy
	@$(VENV)/bin/lint-imports --no-cache --no-logo
	@$(VENV)/bin/zizmor --offline --quiet .github
	@$(CHECK).github-workflows .github/workflows/*.yml
	@$(CHECK).dependabot .github/dependabot.yml
	@$(CHECK).github-issue-forms $(filter-out %/config.yml,$(wildcard .github/ISSUE_TEMPLATE/*.yml))
	@$(CHECK).compose-spec examples/one-machine/compose.yaml
	@$(CHECK).github-issue-config .github/ISSUE_TEMPLATE/config.yml
CHECK = $(VENV)/bin/check-jsonschema --quiet --builtin-schema vendor

docs: $(VENV)/.dev ## Build the documentation into site/
	@NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict --quiet
	@echo "docs: site/index.html"

wheel: ## Build the package as a wheel into dist/
	@$(PYTHON) -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .
	@echo "pip install dist/$$(ls -t dist | head -1)"

bench: $(VENV)/.dev ## Measure speed and memory of the engine against the reference implementation
	@$(PY) -m benchmarks.engine

first-minute: $(VENV)/.dev ## Measure the time from `make serve` to a visible forecast, from a frame to a plot, and the import
	@$(PY) -m benchmarks.first_minute

bench-job: $(VENV)/.dev ## Measure the nightly job by phase, for 100 tickers on a real Space and Postgres
	@$(PY) -m benchmarks.pipeline

bench-scoring: $(VENV)/.dev ## Measure the scoring of a million forecasts on a real Postgres
	@$(PY) -m benchmarks.scoring

bench-ledger: $(VENV)/.dev ## Measure the cost of ten million forecasts in Postgres (LEDGER="--sessions 100": a tenth)
	@$(PY) -m benchmarks.ledger $(LEDGER)

bench-backtest: $(VENV)/.dev ## Measure the engine's share of a backtest's time
	@$(PY) -m benchmarks.walk_forward

bench-finetune: $(VENV)/.dev ## Measure the time of a fine-tuning step
	@$(PY) -m benchmarks.finetune

nano: $(VENV)/.dev ## Continue training kronos-nano on candles of packages, and compare it with the current weights (NANO="--steps 100")
	@$(PY) -m benchmarks.nano $(NANO)

combination: $(VENV)/.dev ## Measure the gain of combining the model with simple forecasts (COMBINATION="--candles DIR --since 2016-01-01")
	@$(PY) -m benchmarks.combination $(COMBINATION)

settings: $(VENV)/.dev ## Measure the effect of temperature, top_p, paths and context on forecasts (KRONOS_MODEL=…; ten minutes)
	@$(PY) -m benchmarks.sampling $(SETTINGS)

lock: $(VENV)/.dev ## Renew constraints.txt, the Space's requirements and all hashes (LOCK=--hashes: only the hashes)
	@$(PY) -m pip install --quiet --disable-pip-version-check uv
	@$(PY) scripts/lock.py $(LOCK)

release: $(VENV)/.dev ## Write VERSION everywhere, date the changelog, commit and tag (VERSION=0.2.0)
	@$(PY) scripts/release.py prepare "$(VERSION)"

clean: ## Remove everything installed and built, but not the database
	rm -rf $(VENV) .cache site build *.egg-info

# Installed environments: .run for running, .dev for everything.
$(VENV)/.run: EXTRAS := space,sample
$(VENV)/.dev: EXTRAS := dev
$(VENV)/.run $(VENV)/.dev: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; none was found. Install it, or say make PYTHON=/path/to/python" >&2; exit 1; }
	@$(PY) -m pip --version >/dev/null 2>&1 || { rm -rf $(VENV); echo "making $(VENV) with $$($(PYTHON) --version)"; $(PYTHON) -m venv $(VENV); }
	@$(PY) scripts/install.py $(EXTRAS)
	@$(PY) -m compileall -qq -j 0 $(CURDIR)/$(VENV)/lib || true # 20,000 files on all CPUs; pip would use one
	@touch $@
