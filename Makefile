# The door to everything. Each target makes the virtual environment first; that is quick when nothing changed.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: install demo test search bench check crds lock clean

install: $(STAMP)

$(STAMP): requirements/dev.lock pyproject.toml hatch_build.py detector/anomaly_detector/native/kernel.c
	@echo "Installing into .venv (about two minutes the first time) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: $(STAMP)  ## The whole story on this machine, from nothing. KEEP=1 leaves it running.
	@$(BIN)/python demo $(if $(KEEP),--keep)

# Most tests wait for servers and processes, so four at a time keep two cores busy; in the order of their names, those
# that wait longest (tests/e2e) come first, and no core idles at the end.
test: check  ## Everything that is checked. KUBEBUILDER_ASSETS=DIR runs it on the real control plane in that folder.
	@$(BIN)/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder

search: $(STAMP)  ## Try the properties on other examples than make test does; each time on others.
	@$(BIN)/python -m pytest -n 2 --hypothesis-profile=search tests/unit

check: $(STAMP)
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@PYTHONPATH=operator:detector:devcluster $(BIN)/lint-imports
	@$(BIN)/python -m anomaly_operator.crdgen --check
	@$(BIN)/python manifests/render.py --check

crds: $(STAMP)  ## Generate the CustomResourceDefinition from the operator's types, and the manifests from the chart.
	@$(BIN)/python -m anomaly_operator.crdgen
	@$(BIN)/python manifests/render.py

bench: $(STAMP)  ## Measure, and write bench-report.json. ONLY="control_plane switching" for some of it.
	@$(BIN)/python benchmarks/run.py $(ONLY)

COMPILE := $(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header

lock: $(STAMP)  ## Resolve the lock files anew: one to develop with, one for each image, one to build the wheel.
	@$(COMPILE) pyproject.toml --extra dev -o requirements/dev.lock
	@$(COMPILE) pyproject.toml --extra operator --constraint requirements/dev.lock -o requirements/operator.lock
	@$(COMPILE) pyproject.toml --extra detector --constraint requirements/dev.lock -o requirements/detector.lock
	@$(COMPILE) requirements/build.in --constraint requirements/dev.lock -o requirements/build.lock

clean:
	rm -rf .venv
