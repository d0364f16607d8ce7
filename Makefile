# Every target sets up by itself what it needs. `make help` lists them.
#
#   PYTHON=python3.12                                      another interpreter (3.11 is the tested one)
#   TORCH_INDEX=https://download.pytorch.org/whl/cu130     another build of torch; empty = pip's own index
#   VENV=/somewhere/else                                   another place for the virtual environment

VENV ?= .venv
# Python compiles what is imported when it is; pip would compile all of torch first.
PIP_OPTIONS ?= --no-compile
PYTHON ?= $(shell command -v python3.11 || command -v python3)
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
BIN := $(VENV)/bin
TORCH := $(shell grep '^torch==' constraints.txt)
INSTALLED := $(VENV)/.installed-$(shell cat setup.py constraints.txt | cksum | cut -d' ' -f1)
# Two processes, whole files each: the slow tests wait for compilers as much as they compute.
PYTEST_ARGS ?= -n 2 --dist loadfile

.PHONY: help install demo test fuzz check lint format clean

help:
	@echo "make demo     ResNet-20 on digits, from nothing to a report in runs/demo"
	@echo "make test     the whole test suite"
	@echo "make fuzz     property tests alone, on many examples that differ every time"
	@echo "make check    ruff, mypy and the tests"
	@echo "make format   let ruff rewrite the sources"
	@echo "make install  only set up $(VENV)"
	@echo "make clean    remove $(VENV), caches and the demo's run folder"

install: $(INSTALLED)

# The stamp's name carries a checksum: changed requirements install anew, unchanged ones cost nothing.
$(INSTALLED):
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $(PIP_OPTIONS) $(TORCH) $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX) --retries 1)
	$(BIN)/python -m pip install --quiet $(PIP_OPTIONS) -e '.[dev]' -c constraints.txt
	rm -f $(VENV)/.installed-*
	touch $@

demo: $(INSTALLED)
	$(BIN)/tvm-prune cprune resnet20 --data digits --preset demo --train-epochs 16 --max-seconds 140 --uniform 0.5,0.25,0.125 --uniform-rounding 4 --out runs/demo

test: $(INSTALLED)
	$(BIN)/python -m pytest $(PYTEST_ARGS)

fuzz: $(INSTALLED)
	$(BIN)/python -m pytest --hypothesis-profile=fuzz --timeout 7200 -m hypothesis $(PYTEST_ARGS)

lint: $(INSTALLED)
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy

check: lint test

format: $(INSTALLED)
	$(BIN)/python -m ruff check --fix .
	$(BIN)/python -m ruff format .

clean:
	rm -rf $(VENV) runs/demo build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
