# Everything a person or CI does with a checkout. `make help` lists it.

VENV ?= .venv
# SETUP=: skips the set-up where another environment is given with VENV.
SETUP ?= tools/setup
VENV_PYTHON := $(VENV)/bin/python
# The cloud makes bridges, namespaces and virtual machines: that takes root.
AS_ROOT := $(shell [ "$$(id -u)" = 0 ] || echo sudo)

# Tests that need no cloud and no clock, those first that take long. Some wait for a second or ten: three at a time.
ALONE := tests/simulation tests/powercut tests/nova_oracle tests/unit tests/api bench/micro

.DEFAULT_GOAL := help
.PHONY: help setup up down test torture simulate nova-environment oracle check format record-layout clean
.PHONY: bench bench-quick bench-micro bench-compare bench-large
.PHONY: bench-store bench-hub bench-scheduler bench-api bench-sdk bench-cloud bench-start

help: ## say what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: ## install what is missing, make .venv and build the extensions
	@$(SETUP)

up: setup ## start the cloud and boot a server named demo in it
	@$(AS_ROOT) $(VENV_PYTHON) tools/up.py

down: ## stop everything and leave nothing but var/
	@if [ -x $(VENV)/bin/nova-fast ]; then $(AS_ROOT) $(VENV)/bin/nova-fast down --all; else echo "there is no $(VENV): nothing of ours can be running"; fi

test: setup ## run all tests, and see that everything can still be measured
	@$(AS_ROOT) $(VENV_PYTHON) -m pytest -n 3 --dist worksteal $(ALONE)
	@$(AS_ROOT) $(VENV_PYTHON) -m pytest $(ALONE:%=--ignore=%)
	@$(AS_ROOT) $(VENV_PYTHON) -m bench --quick

torture: setup ## the long proofs: kill -9, power cuts, full disks, floods, as long as it takes
	@$(AS_ROOT) env NOVA_FAST_TORTURE=1 $(VENV_PYTHON) -m pytest -m torture

simulate: setup ## play SEEDS seeds of the simulator from FIRST_SEED on
	@$(VENV_PYTHON) -m tests.simulation --seeds $(or $(SEEDS),400) --first $(or $(FIRST_SEED),0)

nova-environment: ## make .venv-nova, 400 MB: OpenStack's own Nova to compare with
	@tools/nova-environment

oracle: setup nova-environment ## compare CASES cases with Nova's own filters and weighers, from FIRST_CASE on
	@$(VENV_PYTHON) -m tests.nova_oracle --cases $(or $(CASES),20000) --first $(or $(FIRST_CASE),0)

check: setup ## format, lint, types, import directions, tidy
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-logo
	$(VENV_PYTHON) -m pytest -q tests/unit/test_tidy.py tests/unit/test_record_layout.py

format: setup ## put the code into shape
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

bench: setup ## run all benchmarks (40 minutes), print RESULT lines; RECORD=0.1.0 writes them to docs/benchmarks/history
	@$(AS_ROOT) $(VENV_PYTHON) -m bench $(if $(RECORD),--record $(RECORD))

bench-quick: setup ## the same with small numbers, in about a minute: that everything can be measured, not what it is
	@$(AS_ROOT) $(VENV_PYTHON) -m bench --quick

bench-store bench-hub bench-scheduler bench-api bench-sdk bench-cloud bench-start: setup # one of them
	@$(AS_ROOT) $(VENV_PYTHON) -m bench $(@:bench-%=%) $(if $(RECORD),--record $(RECORD))

bench-large: setup ## 100,000 hosts and 1,000,000 servers, once (half an hour, 10 GB of disk)
	@$(AS_ROOT) $(VENV_PYTHON) -m bench large $(if $(RECORD),--record $(RECORD))

bench-micro: setup ## single steps under pytest-benchmark; kept in .benchmarks/, one file a commit
	@$(VENV_PYTHON) -m bench.micro_run

bench-compare: setup ## is this tree slower than the last commit, or than AGAINST=commit? Fails when it is
	@$(VENV_PYTHON) -m bench.compare $(if $(AGAINST),--against $(AGAINST))

record-layout: setup ## write down the fields of new records
	$(VENV_PYTHON) tools/record_layout.py --update

clean: ## remove what was built; var/ stays
	rm -rf $(VENV) .venv-nova build dist *.egg-info nova_fast/_ext/*.so nova_fast/_ext/*.c _ext/*.c .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .benchmarks
	find . -name __pycache__ -not -path './var/*' -prune -exec rm -rf {} +
