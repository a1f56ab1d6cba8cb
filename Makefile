# make demo: set-up, then the main job on drawn faces.  make test: the tests.  make check: the house rules.
# make docs: the documents as a site, in site/.
PYTHON ?= python3
VENV := .venv/bin/python
TOOLS := .venv/cached/bin

export FLWR_TELEMETRY_ENABLED := 0
export FLWR_DISABLE_UPDATE_CHECK := 1
export FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION := 1
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1
export NO_MKDOCS_2_WARNING := 1

.PHONY: setup demo test check format docs

setup:
	@$(PYTHON) .ci/environment.py

demo: setup
	@.venv/bin/fedfer compare experiment=quickstart

test: setup
	@$(VENV) -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

check: setup
	@$(TOOLS)/ruff check .
	@$(TOOLS)/ruff format --check .
	@$(VENV) -m pyright --pythonpath $(VENV)
	@$(VENV) -c "import sys; from importlinter.cli import lint_imports_command as run; sys.exit(run())"
	@$(VENV) .ci/house_rules.py

format: setup
	@$(TOOLS)/ruff check --fix .
	@$(TOOLS)/ruff format .

docs: setup
	@$(VENV) -m mkdocs build --strict
