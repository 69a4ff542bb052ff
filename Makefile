# Two commands matter: `make bench` and `make test`. Both set up their own environment in .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LOCKS := docker/cpu/torch.txt docker/cpu/requirements.txt

.PHONY: help bench test lint lock clean

help: ## show the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

bench: $(VENV)/ready ## run the CPU smoke preset of every case; write records, LEADERBOARD.md and CLAIMS.md
	$(BIN)/python -m bench run --profile cpu --preset smoke

test: $(VENV)/ready ## run all tests
	$(BIN)/python -m pytest

lint: $(VENV)/ready ## ruff, mypy --strict, declarations
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m bench check --runs

$(VENV)/ready: $(LOCKS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; name one with PYTHON=python3.12 make ..."; exit 2; }
	$(PYTHON) -m venv --clear $(VENV)
	for lock in $(LOCKS); do $(BIN)/python -m pip install --quiet --no-deps --require-hashes -r $$lock || exit 1; done
	touch $@

# torch has its own lock, and its CUDA packages are not wanted on a CPU. UV_FLAGS: where uv finds a CPU build of torch
UV_FLAGS ?= --torch-backend cpu
NOT_ON_CPU := $(foreach name,torch triton cuda-bindings cuda-pathfinder cuda-toolkit nvidia-cublas nvidia-cuda-cupti nvidia-cuda-nvrtc \
	nvidia-cuda-runtime nvidia-cudnn-cu13 nvidia-cufft nvidia-cufile nvidia-curand nvidia-cusolver nvidia-cusparse \
	nvidia-cusparselt-cu13 nvidia-nccl-cu13 nvidia-nvjitlink nvidia-nvshmem-cu13 nvidia-nvtx,--no-emit-package $(name))

lock: ## refresh docker/cpu/requirements.txt from pyproject.toml (needs uv)
	uv pip compile pyproject.toml --group dev --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
		$(NOT_ON_CPU) $(UV_FLAGS) --quiet --output-file docker/cpu/requirements.txt

clean: ## remove the environment and caches; records stay
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache
