# The two commands of the README; each makes .venv and installs mnas there on first use.
#   make search                     search for the default 15 ms
#   make search ARGS="--data photos --latency-ms 10"
#   make test                       run the tests, one process a core
#   make test PYTEST="-k latency"   some of them
# And one for whoever works on runtimes; it installs all of them into the environment.
#   make test-runtimes VENV=.venv-runtimes
PYTHON ?= python3
VENV ?= .venv
ARGS ?= --latency-ms 15
PYTEST ?=
pytest = $(VENV)/bin/python -m pytest --numprocesses auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder $(PYTEST)

.PHONY: search test test-runtimes lint

search: $(VENV)/.installed
	$(VENV)/bin/mnas search --space v3_large $(ARGS)

test: $(VENV)/.installed-dev
	$(pytest)

test-runtimes: $(VENV)/.installed-runtimes
	MNAS_TEST_ALL_RUNTIMES=1 $(pytest) -rs tests/latency/runtimes tests/latency/kit tests/export/formats tests/pipeline/test_int8.py

lint: $(VENV)/.installed-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/mypy benchmarks

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "mnas needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --disable-pip-version-check -q -c constraints.txt -e .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(VENV)/bin/python -m pip install --disable-pip-version-check -q -c constraints.txt -e '.[dev]'
	touch $@

$(VENV)/.installed-runtimes: $(VENV)/.installed
	$(VENV)/bin/python -m pip install --disable-pip-version-check -q -c constraints.txt -e '.[dev,runtimes]'
	touch $@
