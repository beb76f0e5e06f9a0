.DEFAULT_GOAL := help
.PHONY: help demo lab test test-all coverage types faults mutation fuzz notebooks lint format bench gpu gpu-double gpu-wheels gradcheck data pictures docs lite-test dist clean
export PIP_DISABLE_PIP_VERSION_CHECK = 1

PYTHON ?= python3
BIN := .venv/bin

help:  ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

demo: .venv/installed  ## train on handwritten digits for a minute; leaves runs/digits/
	$(BIN)/python -m tinyvrnn train digits --minutes 1 --lr 4e-3 --warmup 8 --out runs/digits --overwrite

lab: .venv/installed-course  ## open the course in JupyterLab, in your own folder lab/
	$(BIN)/python -m tinyvrnn course start lab
	$(BIN)/python -m jupyter labextension disable @jupyter/nbgrader:create-assignment  # that panel is for instructors
	$(BIN)/python -m jupyterlab lab/00_start_here.ipynb

test: .venv/installed-test  ## the test suite, less the slow half
	$(BIN)/python -m pytest -n auto --dist loadgroup

test-all: .venv/installed-test  ## all tests: every notebook is executed as well
	$(BIN)/python -m pytest -n auto --dist loadgroup -m ""

mutation: .venv/installed-test  ## change the code in thousands of places, and see that a test notices (2 hours or so)
	$(BIN)/python scripts/mutation.py

fuzz: .venv/installed-fuzz  ## wrong files for each of the sixteen readers, a minute each
	cd tests && ../$(BIN)/python -m fuzz --seconds 60

coverage: .venv/installed-test  ## the test suite again, and which branches it leaves out; fails below 95 per cent
	$(BIN)/python -m coverage run -m pytest
	$(BIN)/python -m coverage report

faults: .venv/installed-test  ## plant a fault in each module and see the tests go red; takes a while
	$(BIN)/python scripts/plant_faults.py

notebooks: .venv/installed-teach  ## build the notebooks from notebooks/src
	$(BIN)/python scripts/build_notebooks.py

lint: .venv/installed-test  ## check style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/installed-test  ## check the type hints of the public names with mypy
	$(BIN)/python -m mypy
	$(BIN)/python -m pytest tests/test_types.py

format: .venv/installed-test  ## mend style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/installed-bench  ## time a training step against PyTorch and JAX (fetches both)
	$(BIN)/python benchmarks/step.py

gpu:  ## tests, checks and benchmarks on a GPU, into build/gpu/; uses PYTHON as it is (docs/gpu.md)
	$(PYTHON) scripts/gpu.py $(STAGES)

gpu-double: .venv/installed-test  ## the same on a test double of CuPy, without a GPU
	$(BIN)/python scripts/gpu.py --double $(STAGES)

gpu-wheels:  ## fetch the pure-Python packages that a GPU machine without a network may lack
	$(PYTHON) -m pip download --quiet --no-deps --only-binary=:all: --platform any --implementation py --abi none \
		--python-version 3.11 -d build/gpu-wheels autograd defusedxml execnet filelock iniconfig packaging \
		platformdirs pluggy pygments pytest pytest-timeout pytest-xdist threadpoolctl tomli-w tqdm

gradcheck: .venv/installed  ## numeric check of every backward pass
	$(BIN)/tinyvrnn gradcheck

data: .venv/installed  ## rebuild the embedded data sets and compare them with what is here
	$(BIN)/python scripts/build_data.py --check

pictures: demo  ## remake the pictures of the README from a fresh demo
	mkdir -p docs/images
	cp runs/digits/samples.png runs/digits/curves.png runs/digits/reconstructions.png docs/images/

docs: .venv/installed-docs  ## build the site, build/site/html; REPOSITORY=https://... for links, PYODIDE=folder for its own
	$(BIN)/python scripts/build_site.py $(if $(REPOSITORY),--repository $(REPOSITORY)) $(if $(PYODIDE),--pyodide $(PYODIDE))

lite-test: .venv/installed-lite  ## run the solved course in JupyterLite in Chromium; PYODIDE=folder with its wheels
	$(BIN)/python scripts/lite_test.py --pyodide $(PYODIDE)

dist: .venv/installed-dist  ## build dist/*.tar.gz and *.whl, check them, try them; REPOSITORY=https://... for links
	$(BIN)/python scripts/dist.py $(if $(REPOSITORY),--repository $(REPOSITORY))

clean:  ## remove .venv, runs and caches
	rm -rf .venv runs build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "tinyvrnn needs Python 3.11 or newer: make PYTHON=python3.x ..."; exit 2; }
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python setup.cfg pyproject.toml
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

.venv/installed-%: .venv/installed
	$(BIN)/python -m pip install --quiet --editable ".[$*]"
	@touch $@
