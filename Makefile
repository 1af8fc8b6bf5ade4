# Python and make are all that is needed: `make examine` for a first report, `make test` for the
# tests. The first call sets up .venv; the next ones start at once.

PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip --disable-pip-version-check install --quiet -c constraints.txt
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
FRESH := pyproject.toml constraints.txt

# A folder that was moved or copied sets itself up again.
ifneq ($(shell cat .make/place 2> /dev/null),$(CURDIR))
$(shell rm -rf .make)
endif

.PHONY: examine test test-system endurance docs clean
.DELETE_ON_ERROR:

examine: .make/ready  ## train a small network on handwritten digits and examine it
	$(BIN)/whynet examine digits-mlp --out out/digits

test: .make/ready-to-test  ## lint, format, types, layers, docs and fast tests
	$(ONE_THREAD) $(BIN)/python -m pytest -n 2 --dist worksteal -m "not system and not endurance"

test-system: .make/ready-to-test  ## tests that need Debian packages, see .ci/run
	$(ONE_THREAD) $(BIN)/python -m pytest -m "system and not endurance"

endurance: .make/ready-to-test  ## the full counts; takes long
	$(ONE_THREAD) $(BIN)/python -m pytest -n 2 -m endurance

docs: .make/ready-to-test  ## the documentation, into site/
	$(BIN)/python -m mkdocs build --strict --quiet

clean:  ## remove what make has made; reports under out/ stay
	rm -rf .venv .make site .pytest_cache .mypy_cache .ruff_cache .hypothesis

.make/python:
	@command -v $(PYTHON) > /dev/null || { echo "whynet needs Python 3.11 or newer, and there is no $(PYTHON): install it, or name one as in make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else f"whynet needs Python 3.11 or newer, and $(PYTHON) is {sys.version.split()[0]}: name a newer one, as in make PYTHON=python3.12")'
	@$(PYTHON) -m venv --clear .venv || { echo "$(PYTHON) cannot make a virtual environment: on Debian, install python3-venv"; exit 1; }
	@mkdir -p .make && printf '%s' '$(CURDIR)' > .make/place && touch $@

# torch goes first and alone, so that its pinned build is what everything after it finds.
.make/ready: .make/python $(FRESH)
	@echo "Setting up .venv: torch first, then the rest; a minute or two the first time."
	$(INSTALL) torch
	$(INSTALL) -e .
	@$(BIN)/python .ci/check_environment.py
	@touch $@

.make/ready-to-test: .make/ready
	$(INSTALL) -e '.[test,docs]'
	@$(BIN)/python .ci/check_environment.py
	@touch $@
