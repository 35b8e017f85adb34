# Each target says what it does after `##`; `make help` prints that.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help env demo check test tests proof coverage compiled lint fmt docs site bench chaos soak pins clean

PYTHON ?=
CANDIDATES := python3.11 python3.12 python3.13 python3 python
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
INSTALL := $(PIP) install --no-input
LOCKED := $(INSTALL) --require-hashes --only-binary :all:
PINS := $(BIN)/uv pip compile --quiet $(if $(UPGRADE),--upgrade) --custom-compile-command "make pins" \
	--generate-hashes --only-binary :all: --no-annotate --no-emit-package twinvec-client
PYTEST := $(BIN)/python -m pytest --numprocesses 3 --dist loadgroup # tests wait as well: more processes than cores
EVERYWHERE := --universal --python-version 3.11 --fork-strategy fewest

help: ## Print this list
	@echo "Twinvec. PYTHON=python3.12 picks the interpreter of a new environment."
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

env: $(VENV)/.run ## Make the environment in .venv: pinned packages, and Twinvec itself

demo: env ## Train on MNIST, embed all 70,000 digits, look up neighbours and write a report, on real servers
	$(BIN)/twinvec demo

check: lint ## While you write: linters, types, and every test that starts no server and trains no tower (a minute)
	$(BIN)/python -m pytest --numprocesses 2 --quick $(ARGS)

test: $(VENV)/.dev ## Before a change lands: linters, types, and the tests; ARGS="-k pairs" goes to pytest
	@$(MAKE) --no-print-directory --jobs 2 tests lint # mypy is one process, and takes a minute

# What fails is run again, and then tells what each part of its assertion was: to prepare that for all takes each process
# ten seconds.
tests: compiled
	@rm -f .pytest_cache/v/cache/lastfailed
	@$(PYTEST) --assert plain $(ARGS) || { [ $$? -eq 1 ] && $(BIN)/python -m tests.again; }

proof: compiled ## Before a change of the queue, of leases or of a connection lands: the tests that take longest
	$(PYTEST) -m proof $(ARGS)

coverage: compiled ## Run the tests, a fifth slower, and print the share of lines and branches that ran, room by room
	$(PYTEST) --cov --cov-report= $(ARGS)
	@for room in cli client/twinvec_client db local tasks training web worker; do \
		echo "$$($(BIN)/coverage report --format=total --precision=1 --include="$$room/*") % of $$room"; \
	done
	@echo "$$($(BIN)/coverage report --format=total --precision=1) % in all"

lint: $(VENV)/.dev ## Check style, types and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m mypy
	$(BIN)/lint-imports

fmt: $(VENV)/.dev ## Format the code and mend what can be mended
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

docs: $(VENV)/.run ## Write what is made of the code: docs/contract.md, and the tables of settings and metrics
	$(BIN)/python -m twinvec_client.contract.document > docs/contract.md
	$(BIN)/python -m worker.settings_table
	$(BIN)/python -m worker.metrics_table

site: $(VENV)/.dev ## Build the documentation into site/; look at it with: python3 -m http.server -d site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

bench: $(VENV)/.bench ## Measure stages, bulk, latency, look-ups, memory, scaling and starts (an hour); ARGS="--write" puts the tables in docs/performance.md
	@for name in stages bulk latency nearest memory scaling startup; do $(BIN)/python -m benchmarks.$$name $(ARGS) || exit 1; done

chaos: $(VENV)/.dev ## Hurt it for real, and write the table of what was lost to docs/reliability.md
	$(BIN)/python -m tests.chaos --write

soak: $(VENV)/.dev ## Run for an hour and kill a process a minute, and write to docs/reliability.md what grew
	$(BIN)/python -m tests.soak --write

pins: $(VENV)/.run ## Pin what pyproject.toml asks for; UPGRADE=1 takes newer releases
	$(INSTALL) uv
	$(PINS) $(EVERYWHERE) --extra web pyproject.toml -o requirements/run.txt
	$(PINS) $(EVERYWHERE) --group dev --constraints requirements/run.txt -o requirements/dev.txt
	$(PINS) $(EVERYWHERE) --group bench --constraints requirements/run.txt --constraints requirements/dev.txt \
		-o requirements/bench.txt
	$(PINS) $(EVERYWHERE) --group build --constraints requirements/run.txt -o requirements/build.txt
	$(PINS) $(EVERYWHERE) --group data --no-deps -o requirements/data.txt
	$(PINS) --python-platform x86_64-manylinux_2_28 --python-version 3.12 \
		--extra gpu pyproject.toml --constraints requirements/run.txt -o requirements/gpu.txt

clean: ## Remove the environment and the caches; data in .twinvec stays
	rm -rf $(VENV) .coverage .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache dist client/dist site
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps below are written last, so that an interrupted installation is done again.
# No environment yet, one that was moved here, or one whose interpreter is gone: make it anew.
ifneq "$(shell test -x $(BIN)/python && cat $(VENV)/.here 2>/dev/null)" "$(CURDIR)"
.PHONY: $(VENV)/.here
endif

$(VENV)/.here:
	@found=; for python in $(or $(PYTHON),$(CANDIDATES)); do \
		if "$$python" -c 'import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
			2>/dev/null; then found=$$python; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
		echo "Twinvec needs Python 3.11, 3.12 or 3.13 with its venv module; none of these is one:" \
			"$(or $(PYTHON),$(CANDIDATES)). Install one (Debian and Ubuntu: apt install python3-venv)," \
			"or name it: make env PYTHON=/path/to/python3.12" >&2; \
		exit 1; \
	fi; \
	echo "Making $(VENV) with $$("$$found" --version)"; \
	"$$found" -m venv --clear $(VENV)
	@echo '$(CURDIR)' > $@

$(VENV)/.run: $(VENV)/.here pyproject.toml client/pyproject.toml \
		requirements/build.txt requirements/run.txt requirements/data.txt
	$(LOCKED) -r requirements/build.txt -r requirements/run.txt
	$(LOCKED) --no-deps -r requirements/data.txt
	$(INSTALL) --no-index --no-deps --no-build-isolation -e client -e .
# Else each process compiles them for itself where PYTHONDONTWRITEBYTECODE is set.
	$(BIN)/python -m compileall -q cli client db local tasks training web worker
	@touch $@

# The tests start hundreds of processes.
compiled: $(VENV)/.dev
	$(BIN)/python -m compileall -q cli client db local tasks training web worker tests

$(VENV)/.dev: $(VENV)/.run requirements/dev.txt
	$(LOCKED) -r requirements/dev.txt
	@touch $@

$(VENV)/.bench: $(VENV)/.run requirements/bench.txt
	$(LOCKED) -r requirements/bench.txt
	@touch $@
