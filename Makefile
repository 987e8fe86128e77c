# make demo   install into .venv and run the main job on the embedded default
# make test   install, lint, type-check and run all tests
# make docs   install and write the documentation to site/, open site/index.html
# make install   only install
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: install demo test docs lint clean

install: $(VENV)/.installed

# torch first and on its own: with it in place, nothing that follows pulls another build over it.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("fimp needs Python 3.11 or newer, found " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[scanpy,dev,docs]'
	touch $@

demo: install
	$(BIN)/fimp demo

lint: install
	$(BIN)/ruff check src tests benchmarks examples docs/conf.py
	$(BIN)/ruff format --check src tests benchmarks examples docs/conf.py
	$(BIN)/mypy

test: lint
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses 2 tests src

# -W: a link or a reference that leads nowhere is an error.
docs: install
	rm -rf site
	$(BIN)/sphinx-build -W --keep-going -q -E -b html -d build/doctrees docs site

clean:
	rm -rf $(VENV) site build dist .pytest_cache .mypy_cache .ruff_cache fimp_results
