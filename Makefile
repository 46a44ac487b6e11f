# postlab: `make stages` trains and compares, `make lab` opens the notebooks. `make help` lists the rest.
#   PROFILE=tiny|smol|t4|rented|mine.yaml   SEED=0   N=05 (a week)   ALL=1   PROCESSES=2   PYTHON=python3.12   NEWEST=1|beyond
#   REPO=https://github.com/OWNER/NAME|none

PYTHON ?= python3
PROFILE ?= $(POSTLAB_PROFILE)
SEED ?= $(or $(POSTLAB_SEED),0)
N ?=
NEWEST ?=
ALL ?=
PROCESSES ?=
NEED_GIB ?=
CHECK ?=
# Where PyTorch's CPU wheels are: used on Linux without an NVIDIA GPU, when it answers.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu

STAGES := 03 05 07 $(if $(ALL),09 10 11) 12
# Relative: every recipe runs in the repository root, and its path may hold spaces or quotes.
PY := .venv/$(if $(filter Windows_NT,$(OS)),Scripts/python.exe,bin/python)
# PROCESSES=2 runs each of weeks 3, 5 and 7 in two processes; all other weeks use one.
LAUNCH := $(PY) $(if $(PROCESSES),-m torch.distributed.run --standalone --nproc_per_node $(PROCESSES))
# An address, given to the script as a variable, so that no shell reads it.
export REPO ?=
export POSTLAB_RUNS ?= $(CURDIR)/runs
# A profile of one's own is a file. Notebooks run in another folder, so its path is made absolute;
# it may hold spaces and quotes.
IS_FILE := $(filter %.yaml %.yml,$(lastword $(PROFILE)))
IS_ABSOLUTE := $(filter /% ~%,$(firstword $(PROFILE)))$(findstring :,$(firstword $(PROFILE)))
CHOSEN := $(if $(IS_FILE),$(if $(IS_ABSOLUTE),,$(CURDIR)/))$(PROFILE)
quoted = '$(subst ','\'',$(1))'
# An empty variable is not an answer to "which profile?": the package then looks at the machine.
WITH_PROFILE := POSTLAB_SEED=$(SEED) $(if $(PROFILE),POSTLAB_PROFILE=$(call quoted,$(CHOSEN)))
PYTEST := HF_HUB_OFFLINE=1 UNSLOTH_DISABLE_STATISTICS=1 $(PY) -m pytest
UNSLOTH_TESTS := $(wildcard tests/unit/*/*_unsloth.py)
# The longest first, as slow tests run side by side, two of them: more would want much memory.
LONGEST := tests/slow/test_kill_stages.py
SLOW_TESTS := $(LONGEST) $(filter-out $(LONGEST),$(wildcard tests/slow/test_*.py tests/gpu/test_*.py))
SLOW_TESTS += tests/rehearsal/test_whole.py
SIDE_BY_SIDE := OMP_NUM_THREADS=1 $(PYTEST) -n 2 --dist worksteal
NOTEBOOKS := $(wildcard notebooks/week*.ipynb)
EXTRAS := $(wildcard notebooks/extras/*.ipynb)

.PHONY: help setup stages week lab notebooks portfolio colab release rehearse gpu-smoke architecture test test-all bench lint unit unit-unsloth gpu-code built nbval nbval-extras rehearsal

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-14s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup:  ## make .venv, or leave it alone when it is as the lock files say
	@"$(PYTHON)" .ci/setup_env.py --torch-index "$(TORCH_INDEX)" \
		$(if $(NEED_GIB),--need-gib $(NEED_GIB)) \
		$(if $(NEWEST),--newest $(if $(filter beyond,$(NEWEST)),beyond,inside))

stages: setup  ## the main job: base, SFT, DPO, GRPO, and the comparison (ALL=1: weeks 9 to 11 as well; PROCESSES=2)
	@set -e; for n in $(STAGES); do \
		case $$n in 03|05|07) run="$(LAUNCH)";; *) run="$(PY)";; esac; \
		$(WITH_PROFILE) MPLBACKEND=Agg $$run notebooks/stages.py $$n; \
	done

week: setup  ## one week as a script: make week N=05
	@test -n "$(N)" || { echo "Name the week: make week N=05"; exit 2; }
	@$(WITH_PROFILE) MPLBACKEND=Agg $(PY) notebooks/src/week$(N)_*.py

lab: setup  ## open the notebooks in JupyterLab (on a remote machine: prints the SSH tunnel command)
	@$(WITH_PROFILE) exec $(PY) .ci/lab.py

notebooks: setup  ## build and execute the notebooks from notebooks/src and notebooks/extras (N=05: only that week)
	@$(WITH_PROFILE) $(PY) notebooks/build.py $(N)

portfolio: setup  ## runs/<profile>/portfolio: cards, pages, posts and slides from your runs, and what is left to do (CHECK=1: the checklist)
	@$(WITH_PROFILE) $(PY) -m postlab.portfolio $(if $(CHECK),check,make) || test $$? -eq 1

colab: setup  ## badges and setup cells for this repository on GitHub (REPO=https://github.com/OWNER/NAME, or none; default origin)
	@$(PY) .ci/colab.py

release: setup  ## dist/: the wheel, and the zip with the notebooks, to upload beside one on Colab
	@$(PY) .ci/release.py

rehearse: setup  ## run every notebook cell on a CPU under another profile (PROFILE=t4|rented|smol|mine.yaml, N=05; default t4)
	@OMP_NUM_THREADS=1 $(PY) tests/rehearsal/walk.py $(if $(filter-out tiny,$(CHOSEN)),$(call quoted,$(CHOSEN)),t4) $(N)

gpu-smoke: setup  ## check a GPU in ten minutes, without network: kernels, precision, memory, speed, kill and resume
	@$(WITH_PROFILE) $(PY) tests/gpu/smoke.py

architecture: setup  ## draw the rooms in ARCHITECTURE.md again, from the imports
	@$(PY) .ci/draw_rooms.py

bench: setup  ## our stages against plain TRL
	@$(PY) bench/steps.py

test: lint unit unit-unsloth gpu-code built nbval rehearsal  ## lint, unit tests, every notebook's cells, a short rehearsal; once set up, no network

test-all: test nbval-extras  ## the same, the extras, the slow tests, and the GPU's where there is one
	$(SIDE_BY_SIDE) $(SLOW_TESTS)

lint: setup
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy
	@report=$$($(PY) -c "from importlinter.cli import lint_imports_command as lint; lint(['--no-logo'])") \
		|| { printf '%s\n' "$$report"; exit 1; }

unit: setup
	$(SIDE_BY_SIDE) tests/unit postlab --doctest-modules --ignore-glob='*_unsloth.py' --ignore=postlab/portfolio/templates

unit-unsloth: setup  # Unsloth patches a whole process, so these tests get their own
	$(if $(UNSLOTH_TESTS),$(PYTEST) $(UNSLOTH_TESTS))

gpu-code: setup  # Unsloth's GPU code on a CPU, in processes that these tests start
	@$(PY) .ci/setup_env.py --gpu-code
	OMP_NUM_THREADS=1 $(PYTEST) tests/gpu_code

built: setup
	$(PYTEST) tests/notebooks

nbval: setup  # two weeks at a time
	@$(PY) .ci/nbval.py $(NOTEBOOKS)

nbval-extras: setup
	@$(PY) .ci/nbval.py $(EXTRAS)

rehearsal: setup
	OMP_NUM_THREADS=1 $(PYTEST) tests/rehearsal/test_short.py
