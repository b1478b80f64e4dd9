# make demo   set up everything, train, evaluate and use a detector on the built-in data set
# make test   set up everything, run the tests; those of the GPU on a stand-in, where it can be built
# make test-gpu   run the tests of the GPU's backend on the GPU of this machine, and its memory checker
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready

.PHONY: demo test test-gpu dev-cuda check docs wheel clean

demo: $(READY)
	$(BIN)/python scripts/demo.py

# A process for each core, up to four.
test: $(READY) dev-cuda
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal

# PyCUDA for the stand-in GPU of the tests, built once: two to four minutes.
dev-cuda: $(READY)
	$(BIN)/python -m tests.hostcuda

# Tests of the GPU's backend on a GPU, those of its kernels under NVIDIA's checker too. GPU_PYTHON=python3 takes an
# environment that has everything already, TESTS=... and CHECKED=... fewer tests, TOOLS= no checker.
GPU_PYTHON ?= $(BIN)/python
CHECKED ?= $(filter-out %_cuda.py %_numba.py %_plans.py,$(wildcard tests/test_backends_*.py))
CUDA_FOLDERS := $(CUDA_HOME) $(CUDA_PATH) /usr/local/cuda
TOOLS ?= memcheck racecheck synccheck
SANITIZER ?= $(firstword $(shell command -v compute-sanitizer 2>/dev/null) \
	$(wildcard $(CUDA_FOLDERS:%=%/bin/compute-sanitizer) $(CUDA_FOLDERS:%=%/compute-sanitizer/compute-sanitizer)))

test-gpu: $(if $(filter $(BIN)/python,$(GPU_PYTHON)),$(READY))
	$(GPU_PYTHON) -c "import pycuda.driver" || $(GPU_PYTHON) -m pip install --quiet --editable ".[cuda]"
	$(GPU_PYTHON) -m darkpy gpu info
	$(GPU_PYTHON) -m darkpy gpu compile
	DARKPY_TEST_GPU=1 $(GPU_PYTHON) -m pytest -m cuda $(TESTS)
	@test -z "$(strip $(TOOLS))" -o -n "$(SANITIZER)" || { echo "compute-sanitizer is not found: set CUDA_HOME to the CUDA toolkit's folder"; exit 1; }
	for tool in $(TOOLS); do DARKPY_TEST_GPU=1 DARKPY_CUDA_POOL=0 \
		$(SANITIZER) --tool $$tool $$(test $$tool = memcheck && echo --report-api-errors no) --target-processes application-only --error-exitcode 1 \
		$(GPU_PYTHON) -m pytest -m cuda $(CHECKED) || exit 1; done

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: $(READY)
	$(BIN)/python scripts/make_docs.py

wheel: $(READY)
	$(BIN)/python -m build --wheel --outdir dist .

# The stamp file makes a second call fast: nothing is installed unless the requirements changed.
$(READY): setup.cfg pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=23" "setuptools>=64"
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $(READY)

clean:
	rm -rf $(VENV) .hostcuda build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
