# Two commands matter: `make bench` and `make test`. Both set up their own environment in .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TRITON2_VENV ?= .venv-triton2
LOCKS := docker/cpu/torch.txt docker/cpu/requirements.txt docker/cpu/dev.txt

.PHONY: help bench test lint style declarations lock triton2-proof gate-proof gate-proof-live gpu-session page-picture clean

help: ## show the targets
	@grep -E '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

bench: $(VENV)/ready ## run the CPU smoke preset of every case; write records, LEADERBOARD.md, CLAIMS.md and index.html
	$(BIN)/python -m bench run --profile cpu --preset smoke

test: $(VENV)/ready ## run all tests, a process per core
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses logical --maxprocesses 8 --no-loadscope-reorder

lint: style declarations ## style and declarations, all that CI refuses without a test

style: $(VENV)/ready ## ruff, mypy --strict
	$(BIN)/ruff check .
	$(BIN)/mypy

declarations: $(VENV)/ready ## workloads, claims, profiles, data sources, and every record's place in its chain
	$(BIN)/python -m bench check --runs

gate-proof: $(VENV)/ready ## count the gate's false alarms and its power on simulated and recorded machines; write docs/gate.md
	$(BIN)/python -m benchmarks.gate_rig

gate-proof-live: BUDGET ?= 240
gate-proof-live: $(VENV)/ready ## the same after live sessions for BUDGET minutes; goes on where it was stopped
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.gate_rig --live --budget $(BUDGET)

# inside a kit (docker/kit.py) the host's own Python and torch are used
gpu-session: BUDGET ?= 8m
gpu-session: $(if $(ASSAY_KIT),,$(VENV)/ready) ## what only a GPU can show, within BUDGET (8m): tests, peers, cases by worth; goes on where it ended
	$(if $(ASSAY_KIT),$(PYTHON),$(BIN)/python) benchmarks/gpu_session.py --budget $(BUDGET)

# compiled here, by all cores (pip would take one): where PYTHONDONTWRITEBYTECODE is set, every process would compile all its imports again.
# -x: torch ships a file that is tested with Python 3.12 alone
$(VENV)/ready: $(LOCKS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; name one with PYTHON=python3.12 make ..."; exit 2; }
	$(PYTHON) -m venv --clear $(VENV)
	for lock in $(LOCKS); do $(BIN)/python -m pip install --quiet --no-compile --no-deps --require-hashes -r $$lock || exit 1; done
	$(BIN)/python -m compileall -q -j 0 -x '_py312\.|/py312_' $(VENV)/lib
	touch $@

lock: $(VENV)/ready ## refresh all hash-locked requirements from pyproject.toml
	$(BIN)/python docker/lock.py

triton2-proof: $(VENV)/ready ## install the Triton 2 requirements (6 GB, once), prove what needs no GPU, write docs/triton2.md
	$(BIN)/python -m assay.models.dnabert.attention.triton2 --venv $(TRITON2_VENV) --write

page-picture: $(VENV)/ready ## make the page from the records and take its picture for the README, docs/page.png (needs chromium)
	$(BIN)/python -m bench board
	$(BIN)/python docs/page_picture.py

clean: ## remove the environment and caches; records stay
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache
