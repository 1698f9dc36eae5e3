# What a person does here, and what CI does: `make` lists it.

SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3; do \
	$$python -c '$(SUPPORTED)' 2>/dev/null && echo $$python && break; done)
BIN := .venv/bin
INSTALLED := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: help install quickstart up-check soak test check protos clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /make \1\t/' | expand -t 20
	@grep -hoE '^command .*make bench-[a-z0-9-]+' benchmarks/*.py | grep -oE 'make bench-.*' | sort

install: $(INSTALLED) ## make .venv with every extra

$(INSTALLED): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "needs Python 3.11, 3.12 or 3.13: make PYTHON=/path/to/it" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

quickstart: install ## fine-tune, publish, quantize, serve and ask a real model
	$(BIN)/tensorseek quickstart --json build/quickstart.json

up-check: bench-up-check ## start, ask and stop the whole stack, within a minute

soak: bench-soak ## faults under load for a while: nothing fails, nothing is wrong, nothing leaks

test: install ## run every test, two files at once
	$(BIN)/python -m pytest -n 2 --dist loadfile

check: install ## lint, format and type check
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

protos: install ## make the code of protos/*.proto again
	$(BIN)/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. --grpc_python_out=. protos/inference.proto
	$(BIN)/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. protos/tfs.proto

bench-%: install
	$(BIN)/python -m benchmarks.$(subst -,_,$*)

clean: ## remove what was made here: .venv and build/, not models or data
	rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
