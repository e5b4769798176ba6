# Everything needs Python 3.11 or newer and nothing else; the first run sets up .venv.

VENV := .venv
BIN  := $(VENV)/bin

# The newest usable Python. A name on the path can be a shim without a version behind it, so each
# candidate is asked. Name one yourself with `make PYTHON=/path/to/python3.12 test`.
PYTHON ?= $(shell for python in python3.13 python3.12 python3.11 python3 python; do \
	$$python -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& command -v $$python && break; done)

.DEFAULT_GOAL := help
.PHONY: help demo test check browser clean

help:
	@echo "make demo    sets everything up and shows the whole loop on an embedded ledger"
	@echo "make test    sets everything up and passes the tests"
	@echo "make check   lint, format, types, import contracts and the fast tests"
	@echo "make clean   removes what these commands made"

demo: $(VENV)/ready
	$(BIN)/loopgrid demo

# Two processes: the suite waits for servers most of its time. A test does not know of its neighbours.
test: $(VENV)/ready browser
	$(BIN)/python -m pytest -n 2 --dist worksteal

# Some tests look at pages in a browser. It is installed where that needs no question; elsewhere they are skipped
# and say so.
browser:
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null \
	|| { test "$$(id -u)" = 0 && command -v apt-get >/dev/null \
		&& apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium; } \
	|| echo "No Chromium here: the tests that need a browser are skipped."

check: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q -m "not slow" tests/architecture tests/property tests/unit

# The stamp is newer than pyproject.toml exactly when the environment matches it. A half-built
# environment is started afresh.
$(VENV)/ready: pyproject.toml
	@test -n "$(PYTHON)" || { \
		echo "LoopGrid needs Python 3.11 or newer with the venv module; found: $$(python3 --version 2>&1 || echo none)." >&2; \
		echo "Install one (on Debian or Ubuntu: apt install python3.11-venv), or name it: make PYTHON=/path/to/python3.11 $(firstword $(MAKECMDGOALS))" >&2; \
		exit 2; }
	@"$(PYTHON)" -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and f"LoopGrid needs Python 3.11 or newer; {sys.executable} is {v[0]}.{v[1]}. Name another: make PYTHON=/path/to/python3.11")'
	"$(PYTHON)" -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache dist build
