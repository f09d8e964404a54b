# Everything a checkout needs. `make run` and `make test` are the two commands of the README; `make help` lists all.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.set-up

.PHONY: setup help run check test test-thorough bench truth lint lock clean
.DELETE_ON_ERROR:

setup: $(STAMP)  ## make .venv with the harness command in it; all others but help and clean begin with this

# uv does the installing, pinned and hashed like everything else; pip only brings uv.
$(STAMP): pyproject.toml .ci/requirements.txt .ci/uv.txt
	@echo "Setting up .venv (Python packages, pinned and checked by hash) ..."
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed; this is " + sys.version.split()[0] + ". Name another with: make PYTHON=python3.12")'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r .ci/uv.txt
	@VIRTUAL_ENV=$(CURDIR)/.venv $(BIN)/uv pip install --compile-bytecode --require-hashes -r .ci/requirements.txt
	@VIRTUAL_ENV=$(CURDIR)/.venv $(BIN)/uv pip install --quiet --no-deps --no-build-isolation -e .
	@# Where PYTHONDONTWRITEBYTECODE is set, every start of a process would compile all that it imports again.
	@$(BIN)/python -m compileall -q harness faults locustfiles compose/api compose/risk
	@touch $@

help:  ## this list
	@awk -F ':[^#]*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

run: setup  ## break Redis under 200 requests per second, write a report
	$(BIN)/harness run --fault redis-down --scenario target --warmup 2s --baseline 20s --fault-for 20s

# Those folders whose tests start no server and no load, and hold no simulations (marked so): what a change of a rule, a plan, a
# sentence or a document can break. Only they are collected.
CHECKED := tests/plan tests/analysis tests/compare tests/report tests/history tests/config tests/test_architecture.py tests/test_docs.py \
  tests/test_troubleshooting.py tests/test_order.py
check: setup  ## lint, and the tests that start no server: about a minute
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@# mypy has one core; what it says comes when the tests are done.
	@said=$$(mktemp); $(BIN)/mypy >"$$said" 2>&1 & mypy=$$!; code=0; \
	env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m pytest -q -n 2 --dist worksteal -m "not simulation and not slow and not thorough" $(CHECKED) || code=$$?; \
	wait $$mypy || code=$$?; cat "$$said"; rm -f "$$said"; exit $$code

# Tests that need a Docker engine are left out, and that is said; .ci/docker brings what they need and runs them.
test: setup  ## the test suite, without the tests that need a Docker engine
	.ci/test

# With more cases of some long tests, which `make test` leaves out. Not in CI.
test-thorough: setup  ## the same, with more cases of some long tests
	.ci/test --thorough

# The measurements of docs/benchmarks.md but the truth table, each once: an estimated three hours on a machine that does nothing else; one of
# them is the soak. nginx, wrk, vegeta and k6 are installed first where they are missing.
bench: setup  ## the measurements of docs/benchmarks.md, about three hours
	$(BIN)/python benchmarks/tools.py
	$(BIN)/python benchmarks/load_cpu.py
	$(BIN)/python benchmarks/rate.py
	$(BIN)/python benchmarks/analysis.py
	$(BIN)/python benchmarks/recovery_rules.py
	$(BIN)/python benchmarks/comparison.py
	$(BIN)/python benchmarks/undo.py --tries 20 --signal KILL
	$(BIN)/python benchmarks/undo.py --tries 20 --signal INT
	$(BIN)/python benchmarks/neutral.py --kills 20
	$(BIN)/python benchmarks/recovery_accuracy.py
	$(BIN)/python benchmarks/recovery_accuracy.py --rps 5000
	$(BIN)/python benchmarks/recovery_accuracy.py --mode mitigated --rps 200 --jobs 2
	$(BIN)/python benchmarks/fault_edges.py
	$(BIN)/python benchmarks/closed_loop_hang.py
	$(BIN)/python benchmarks/closed_loop_hang.py --request-timeout 10
	$(BIN)/python benchmarks/gate.py
	$(BIN)/python benchmarks/console.py
	$(BIN)/python benchmarks/game_day_kills.py
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/report_size.py
	$(BIN)/python benchmarks/soak.py

# Does the harness find every known defect of the sample API, and accuse nobody else? Hours with five repeats;
# `make truth TRUTH="--only chosen --repeat 1"` takes a quarter of one. See docs/benchmarks.md.
TRUTH ?=
truth: setup  ## is every known defect of the sample API found? hours; TRUTH="--only chosen --repeat 1" takes less
	$(BIN)/python benchmarks/truth.py $(TRUTH)

lint: setup  ## ruff, its format, mypy --strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Renew the pinned versions. The clients' own defaults choose the registry; no host is recorded.
lock: setup  ## renew the pinned versions
	$(BIN)/uv pip compile --quiet --upgrade --generate-hashes --universal --python-version 3.11 --no-header \
	  --no-emit-index-url --no-emit-find-links --extra embedded --extra otel --extra dev pyproject.toml -o .ci/requirements.txt
	echo uv | $(BIN)/uv pip compile --quiet --upgrade --generate-hashes --universal --python-version 3.11 \
	  --no-header --no-annotate --no-emit-index-url --no-emit-find-links - -o .ci/uv.txt

clean:  ## remove .venv and what builds and tools left
	rm -rf .venv dist .pytest_cache .mypy_cache .ruff_cache
