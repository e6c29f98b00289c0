# make setup   a virtual environment in .venv with everything pinned (does nothing when it is up to date)
# make demo    every domain on its shipped weights; ends by printing the path of one index.html
# make test    the tests, those in a real browser among them
# make check   formatting, lint, types, import contracts
# make bench   every benchmark, results to benchmarks/results/

# With the repository's root on sys.path our folder datasets/ would pass for an installed library of that name.
export PYTHONSAFEPATH = 1

BIN := .venv/bin
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3.14 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)

.PHONY: setup demo test check bench

setup: .venv/.ready

.venv/.ready: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Headwater needs Python 3.11 or newer; name one with: make setup PYTHON=/path/to/python" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[all,dev]'
	@touch $@

demo: setup
	$(BIN)/headwater demo -o out/demo

# make test ARGS='-k noise', make test ARGS='-m slow'
test: setup
	HEADWATER_CHROMIUM="$$(bash tests/ui/chromium.sh)" && export HEADWATER_CHROMIUM && $(BIN)/python -m pytest $(ARGS)

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@! grep -rnE --include='*.py' '\b(cloud)?pickle\b|torch\.load\b|allow_pickle=True' core apps datasets || { echo "nothing here is pickled: use safetensors and JSON" >&2; exit 1; }

bench: .venv/.ready-bench
	set -e; for program in benchmarks/*.py; do echo "== $$program"; $(BIN)/python $$program; done

.venv/.ready-bench: .venv/.ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[all,dev,bench]'
	@touch $@
