# make demo    run the whole experiment on real clips, from video to report
# make test    run all tests            make test-fast    without the slow ones
# make demo-times    how long installation and each step of make demo took
# make test-lowest   the fast tests with the lowest versions that pyproject.toml allows
# make browse-demo   look at the patches and models of make demo
# make lint    check style and types    make bench        measure against the alternatives
# make test-cluster   the graph on a real SLURM; make test-faults   each stage under each fault
# make docs    build the site of docs/ in build/docs
# make fuzz    damaged files for every parser, for as long as you like (EXAMPLES=2000)
# make sbom    list all packages           make audit    ask which are known to be vulnerable
# make gpu-check   prove and measure everything that runs on a GPU, in 8 minutes
#
# Each sets up what it needs in .venv (nothing global), and is quick when that is done.

PYTHON ?= python3
# Those that may be used here: affinity and a container's quota count. Asked when a recipe runs.
CORES ?= $(shell $(BIN)/python -m pipeline.processor)
BIN := .venv/bin
READY := .venv/requirements.installed
SNAKEMAKE := $(BIN)/snakemake --profile profiles/default
DEMO := results/demo
REPORT := $(DEMO)/snakemake_report.html

.PHONY: demo demo-times test-lowest browse-demo browse-pictures test test-fast test-cluster test-faults fuzz lint format docs bench gpu-check lock sbom audit schema clean help

help:
	@sed -n 's/^# \{0,1\}//p;/^$$/q' Makefile

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "Python 3.11 or newer is needed; set PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "Setting up .venv with the packages of requirements.lock (some minutes, once) ..."
	@date +%s > .venv.begun
	@$(PYTHON) -m venv --clear .venv
	@$(BIN)/python -m workflow.packages install
	@echo "installation: $$(( $$(date +%s) - $$(cat .venv.begun) )) s" > $@; rm .venv.begun

demo: $(READY)
	@echo "Running the demonstration on $(CORES) cores; results go to $(DEMO) ..."
	@$(BIN)/python -m workflow.launch --profile profiles/default --configfile config.demo.yaml \
	    --cores $(CORES) --quiet rules host -- all
	@if [ ! -e $(REPORT) ] || [ -n "$$(find $(DEMO) -newer $(REPORT) -name manifest.json -print -quit)" ]; then \
	    echo "Writing the report ..."; \
	    $(SNAKEMAKE) --configfile config.demo.yaml --quiet all --report $(REPORT) -- all; \
	fi
	@echo "Report:  $(REPORT)"
	@echo "Results: $(DEMO) (tables, figures, inspection, videos)"

demo-times: $(READY)
	@cat $(READY)
	@$(BIN)/python -m workflow.times $(DEMO)

BROWSED = $(DEMO)/patches/train $(DEMO)/patches/validation $(wildcard $(DEMO)/evaluations/*/*)

browse-demo: $(READY)
	@[ -e $(DEMO)/patches/train ] || { echo "Run \`make demo\` first" >&2; exit 1; }
	@$(BIN)/midframe browse $(BROWSED)

# The pictures of docs/browse.md, from the demo's results, by a Chromium.
browse-pictures: $(READY)
	@$(BIN)/python benchmarks/picture_browse.py $(BROWSED) --out docs/images

# Test files run side by side, so libraries get one thread each.
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(CORES) --dist loadfile --no-loadscope-reorder

test: $(READY)
	@echo "Running all tests ..."
	@$(PYTEST)

test-fast: $(READY)
	@$(PYTEST) -m "not slow"

# Some gigabytes the first time: the lowest torch comes with CUDA's libraries. Old packages use names
# that newer ones beside them deprecate.
LOWEST := .venv-lowest
test-lowest: pyproject.toml
	@$(PYTHON) -m venv --clear $(LOWEST)
	@$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check uv
	@$(LOWEST)/bin/uv pip compile --quiet --resolution lowest-direct --extra test --extra supply pyproject.toml --output-file $(LOWEST)/lowest.txt
	@$(LOWEST)/bin/uv pip install --quiet --python $(LOWEST)/bin/python --requirement $(LOWEST)/lowest.txt
	@$(LOWEST)/bin/uv pip install --quiet --python $(LOWEST)/bin/python --no-deps --editable .
	@OMP_NUM_THREADS=1 $(LOWEST)/bin/python -m pytest --numprocesses $$($(LOWEST)/bin/python -m pipeline.processor) --dist loadfile -m "not slow" -W ignore::DeprecationWarning

# With SLURM's plugins, which nothing else needs.
CLUSTER_READY := .venv/cluster.installed
$(CLUSTER_READY): $(READY)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[slurm]"
	@touch $@

# Root, and `apt-get install slurm-wlm munge`; about ten minutes.
test-cluster: $(CLUSTER_READY)
	@MIDFRAME_CLUSTER_TESTS=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/cluster

# Root, for small disks. Writes the table of docs/reliability.md.
test-faults: $(READY)
	@MIDFRAME_FAULT_TESTS=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/faults

# Damaged files for every parser, each time others: EXAMPLES of them for each, some minutes.
EXAMPLES := 2000
fuzz: $(READY)
	@MIDFRAME_FUZZ_EXAMPLES=$(EXAMPLES) $(PYTEST) --timeout=0 tests/fuzz

lint: $(READY)
	@echo "Checking style, types and rules ..."
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/snakefmt --check --compact-diff Snakefile workflow
	@$(BIN)/snakemake --lint --configfile config.demo.yaml
	@$(MKDOCS) --quiet --site-dir $(BIN)/../docs.checked

# The site's generator advertises its successor unless told not to.
MKDOCS := NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

docs: $(READY)
	@$(MKDOCS) --quiet
	@echo "Documentation: build/docs/index.html"

format: $(READY)
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .
	@$(BIN)/snakefmt Snakefile workflow

BENCH_READY := .venv/bench.installed
$(BENCH_READY): benchmarks/requirements.txt $(READY)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --requirement $<
	@touch $@

bench: $(BENCH_READY)
	@for file in benchmarks/bench_*.py; do echo "== $$file"; $(BIN)/python $$file || exit 1; done

# Nothing is installed: PYTHON=... names the Python that has PyTorch for CUDA and CuPy, if it is not
# that of .venv. QUICK=1: a minute.
GPU_PYTHON = $(if $(filter command environment,$(origin PYTHON)),$(PYTHON),$(firstword $(wildcard $(BIN)/python) $(PYTHON)))
gpu-check:
	@$(GPU_PYTHON) benchmarks/gpu_check.py $(if $(QUICK),--quick)

# Resolve the pinned dependencies again. What stands stays as far as pyproject.toml lets it, unless
# UPGRADE=1.
lock:
	@rm -rf .lock-venv && $(PYTHON) -m venv .lock-venv
	@.lock-venv/bin/python -m pip install --quiet --disable-pip-version-check uv
	@.lock-venv/bin/python -m workflow.packages lock $(if $(UPGRADE),--upgrade)
	@rm -rf .lock-venv

# What is in the lock file, as CycloneDX; and whether any of it is known to be vulnerable.
sbom: $(READY)
	@$(BIN)/python -m workflow.packages sbom
	@echo "Bill of materials: build/sbom.cdx.json"

audit: $(READY)
	@$(BIN)/python -m workflow.packages audit

# The configuration's schema and the reference of settings, from the settings classes; the picture
# of the rooms, from their docstrings.
schema: $(READY)
	@$(BIN)/python -m workflow.house --write
	@$(BIN)/python -m workflow.experiment schema > workflow/schemas/config.schema.json
	@$(BIN)/python -m workflow.experiment reference > docs/settings.md

clean:
	rm -rf .venv $(LOWEST) .snakemake results build *.egg-info
