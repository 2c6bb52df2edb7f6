# `make help` lists the targets. Settings: PYTHON=/path/to/python3  INSTALLER=pip  NAME=<experiment>  PYTEST_ARGS=...  KILLS=200  SEED=0
.DEFAULT_GOAL := help
SHELL := bash
NAME ?= quickstart
KILLS ?= 200
SEED ?= 0
PYTEST_ARGS ?= -n 2 --dist loadgroup -m "not slow"
BIN := .venv/bin
INPUTS := pyproject.toml constraints.txt scripts/setup.sh
RESULTS = $${SAM_BENCH_RESULTS:-results}
TABLES = $(RESULTS)/tables

.PHONY: help run test test-oldest lint docs tables figures report published constraints chaos

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: .venv/.bench  ## set up .venv, run the experiment NAME (quickstart), print its table, write its figures and report
	@$(BIN)/sam-bench sweep $(NAME)
	@$(BIN)/sam-bench figures $(NAME) --out $(RESULTS)/figures > /dev/null
	@$(BIN)/sam-bench report $(NAME) --out $(RESULTS)/$(NAME).html > /dev/null
	@echo "figures: $(RESULTS)/figures/$(NAME)_*.pdf and .png"; echo "report:  $(RESULTS)/$(NAME).html (open it in a browser)"

test: .venv/.dev  ## set up .venv and run the tests; the slow ones, too: make test PYTEST_ARGS='-n 2 --dist loadgroup'
	@$(BIN)/python -m pytest $(PYTEST_ARGS)

test-oldest: .venv/.dev .venv/oldest/.made  ## the tests of the optimizers with the oldest torch and numpy (downloads 3 GB)
	@.venv/oldest/bin/python -m pytest -p no:cacheprovider tests/optim

.venv/oldest/.made: pyproject.toml scripts/oldest.sh
	@scripts/oldest.sh

chaos: .venv/.dev  ## sweeps under kill -9, full disks and torn files, compared with one left alone
	@$(BIN)/python scripts/chaos/chaos.py --kills $(KILLS) --seed $(SEED)

lint: .venv/.dev  ## ruff, hadolint on the Dockerfile, and mypy
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/hadolint Dockerfile
	@$(BIN)/mypy

docs: .venv/.dev  ## the documentation as a site, in site/; a broken link is an error
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict
	@echo "site/index.html (open it in a browser)"

tables: .venv/.bench  ## the table of NAME as markdown, csv and latex, in results/tables
	@mkdir -p $(TABLES)
	@for format in markdown csv latex; do $(BIN)/sam-bench table $(NAME) --format $$format > $(TABLES)/$(NAME).$$format || exit; done
	@ls $(TABLES)/$(NAME).*

figures: .venv/.bench  ## the figures of NAME, in paper_figures
	@$(BIN)/sam-bench figures $(NAME)

report: .venv/.bench  ## one self-contained page about NAME: report.html
	@$(BIN)/sam-bench report $(NAME) --out report.html

published: .venv/.dev  ## from the committed records: results/README.md, the README's table, paper_figures
	@$(BIN)/python scripts/published.py

constraints: .venv/.dev  ## write the versions that are in .venv into constraints.txt
	@{ head -n 1 constraints.txt; $(BIN)/python -m pip list --format=freeze --exclude-editable \
	  | sed 's/+.*//' | grep -vE '^(pip|triton|nvidia-.*|cuda-.*)==' | LC_ALL=C sort -f; } > .venv/constraints.txt
	@mv .venv/constraints.txt constraints.txt

.venv/.bench .venv/.dev: .venv/.%: $(INPUTS)
	@scripts/setup.sh $*
