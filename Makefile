# Everything runs in .venv, which holds exactly the packages that requirements/ locks: their versions and their hashes.
PYTHON ?= python3
BIN := .venv/bin
PEER := .venv-peer/bin
INSTALLED := .venv/.installed
LOCK := $(addprefix requirements/,build.txt torch-cpu.txt all.txt cuda.txt)
# --no-deps, because the lock is complete; `scripts/lock.py check` makes sure of it.
INSTALL_LOCKED := $(BIN)/python -m pip install --disable-pip-version-check --no-deps --require-hashes

.DEFAULT_GOAL := help
.PHONY: help install lock hooks assets demo test soak bench check format clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(INSTALLED) ## build the environment in .venv, with saebench (editable) and the development tools

# pip's find-links may lead to a build of torch for CPUs; the registry's build for Linux needs CUDA beside it.
$(INSTALLED): pyproject.toml $(LOCK)
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info[:2] < (3, 14) else "saebench needs Python 3.11, 3.12 or 3.13; name one with: make PYTHON=python3.12 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(INSTALL_LOCKED) -r requirements/build.txt
	@$(INSTALL_LOCKED) --quiet --no-index -r requirements/torch-cpu.txt 2> /dev/null || echo "There is no build of torch for CPUs where pip's find-links leads; the registry's is taken."
	$(INSTALL_LOCKED) --no-build-isolation -r requirements/all.txt
	! $(BIN)/python scripts/lock.py needs-cuda || $(INSTALL_LOCKED) -r requirements/cuda.txt
	$(BIN)/python -m pip install --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

lock: $(INSTALLED) ## write requirements/ anew; UPGRADE="numpy torch==2.14.0" or UPGRADE=all moves versions
	$(BIN)/python scripts/lock.py update $(UPGRADE)

hooks: $(INSTALLED) ## have git run the quick checks before each commit
	$(BIN)/pre-commit install

assets: $(INSTALLED) ## fetch the language model and the texts of the default run (285 MB)
	$(BIN)/saebench assets pull gemma-3-270m sae-probes

demo: assets ## evaluate the bundled SAEs on the tasks that leave the model unchanged, and print tables
	$(BIN)/saebench run --tasks core,sparse_probing,concept_separability,seed_stability,dark_matter

test: assets ## run all tests, also those on the real language models (fetches 93 MB more)
	$(BIN)/saebench assets pull smollm2-135m
	$(BIN)/python -m pytest -n 2 --durations=15

soak: $(INSTALLED) ## try to break the program with kills, processes, hostile inputs and fuzz (half an hour on two cores)
	$(BIN)/python -m tests.soak --page docs/reliability-of-the-program.md

bench: assets .venv-peer/.installed ## measure speed against SAEBench, sae-probes and the bare work (an hour on two quiet cores)
	$(BIN)/saebench assets pull smollm2-135m
	$(BIN)/python -m benchmarks
	$(BIN)/python scripts/render_performance.py

# SAEBench has an environment of its own, because it needs older versions of numpy and datasets. Its core evaluation does
# not use torchvision, and a torchvision that does not fit the build of torch stops transformers from importing.
.venv-peer/.installed: benchmarks/peer-constraints.txt
	test -x $(PEER)/python || $(PYTHON) -m venv .venv-peer
	$(PEER)/python -m pip install --disable-pip-version-check -c $< sae-bench==0.6.0
	$(PEER)/python -c 'import torchvision' 2>/dev/null || $(PEER)/python -m pip uninstall --yes torchvision
	@touch $@

check: $(INSTALLED) ## ruff, spelling, mypy, the layering of rooms, the lock, and whether published tables and boards are up to date
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(BIN)/mypy saebench scripts benchmarks examples/plugin
	$(BIN)/lint-imports
	$(BIN)/python scripts/lock.py check
	$(BIN)/python scripts/render_tables.py --check
	$(BIN)/python scripts/render_performance.py --check
	$(BIN)/python scripts/render_adapters.py --check
	$(BIN)/python -m benchmarks.coverage --check
	$(BIN)/python scripts/render_reliability.py --check
	$(BIN)/python scripts/build_leaderboards.py --check

format: $(INSTALLED) ## let ruff fix what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove the environment and caches, but no results and no downloaded assets
	rm -rf .venv .venv-peer build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find saebench tests scripts benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
