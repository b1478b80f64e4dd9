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

test: $(READY) dev-cuda
	$(BIN)/python -m pytest

# PyCUDA for the stand-in GPU of the tests, built once: two to four minutes.
dev-cuda: $(READY)
	$(BIN)/python -m tests.hostcuda

CHECKED := tests/test_backends_activations.py tests/test_backends_batchnorm.py tests/test_backends_convolution.py \
	tests/test_backends_elementwise.py tests/test_backends_linear.py tests/test_backends_pooling.py

test-gpu: $(READY)
	DARKPY_TEST_GPU=1 $(BIN)/python -m pytest -m cuda
	for tool in memcheck racecheck synccheck; do DARKPY_TEST_GPU=1 DARKPY_CUDA_POOL=0 \
		compute-sanitizer --tool $$tool --error-exitcode 1 $(BIN)/python -m pytest -m cuda $(CHECKED) || exit 1; done

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
