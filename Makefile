# Every target sets up what it needs in $(VENV). Another torch: `make demo TORCH="torch==2.15.0"`.
PYTHON ?= python3
VENV ?= .venv
TORCH ?= torch==2.13.0
TORCH_INDEX ?=
PORT ?= 8000

# `make train-text DATA=folder`, `make evaluate-text DATA=folder`: apps/text/tiny/corpora.py says what has to be in it.
DATA ?= data

# `make gpu` uses neither $(VENV) nor a network: `make gpu PYTHON=python3 OUT=results`, or GPU_FLAGS=--tiny to try it.
OUT ?= benchmarks
GPU_FLAGS ?=
GPU_PYTHON ?= 3.12
GPU_PLATFORM ?= x86_64

BIN := $(VENV)/bin
STAMP := $(VENV)/.installed-$(TORCH)
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
TEST := $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

TESTED := $(foreach package,fal runpod litellm docs packaging notebook openapi,tests/.venvs/$(package)/.installed) $(addsuffix /node_modules/.installed,tests/js client_sdk/js src/streamapp/playground/source src/streamapp/swagger/source)
PEERS := $(foreach peer,litserve bentoml ray runpod broadcaster,benchmarks/.venvs/$(peer)/.installed)

.PHONY: help install install-runtime demo serve fmt check test test-all test-again test-pythons tested chromium proxies \
  chaos bench bench-quick bench-dataset docs reference gpu gpu-wheels playground api-docs editor-page screenshots pictures \
  coverage build release-check freeze train evaluate train-llm evaluate-llm train-text evaluate-text clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 18

install: $(STAMP) ## set up the virtual environment

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) "$(TORCH)"
	$(PIP) --editable ".[diffusion,llm,tls,webrtc,dev]"
	@touch $@

install-runtime: ## set up what serving needs and no more (the Dockerfile's)
	$(PYTHON) -m venv $(VENV)
	$(PIP) $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) "$(TORCH)"
	$(PIP) ".[diffusion,llm]"

demo: install ## serve the SDXL app and watch one image being made
	$(BIN)/python apps/sdxl/demo.py

serve: install ## serve the SDXL app on PORT
	$(BIN)/streamapp serve apps/sdxl/app.py:Sdxl --port $(PORT)

fmt: install ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

check: install ## lint and type-check
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

test: install tested ## run the tests, with fal's and Runpod's own packages and Chromium; of large matrices a sample
	$(TEST)

test-all: install tested ## run the tests, large matrices whole: before an issue is closed
	$(TEST) --all

test-again: ## run what has failed once more, alone: what passes then has lost a race, and is to be mended
	$(BIN)/python -m pytest --all --last-failed --last-failed-no-failures none

tested: chromium proxies $(TESTED) # what the tests drive

test-pythons: tested ## run what needs no torch by each Python of pyproject.toml's that is found; ARGUMENTS are pytest's
	nice -n 5 $(PYTHON) -m tests.pythons $(ARGUMENTS)

chromium: # what the pages are tested in, and their networks; where it cannot be installed, those tests are skipped
	@{ command -v chromium-headless-shell && command -v ip; } >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
	  && apt-get update -qq && apt-get install -qq -y --no-install-recommends chromium-headless-shell iproute2; } || true

# One apt-get after the other. While there is such a policy none of what is installed is started.
proxies: chromium # what the pages on deployment are for; where they cannot be installed, those tests are skipped
	@{ command -v nginx && command -v caddy && command -v systemd-analyze; } >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
	  && { [ -e /usr/sbin/policy-rc.d ] || { install -m 755 .ci/start-nothing /usr/sbin/policy-rc.d && trap 'rm /usr/sbin/policy-rc.d' EXIT; }; } \
	  && apt-get update -qq && apt-get install -qq -y --no-install-recommends nginx caddy systemd; } || true

chaos: install tests/.venvs/runpod/.installed ## cut, flood, kill: faults over real sockets (eight minutes)
	$(BIN)/python -m tests.chaos --out tests/chaos.json

bench: install $(PEERS) ## measure beside every peer, an hour and a half; the tables and the picture
	$(BIN)/python -m benchmarks --out benchmarks/results.json >benchmarks/results.md
	$(BIN)/python -m benchmarks.plot benchmarks/results.json docs/benchmarks.svg
	$(BIN)/python -m benchmarks.previews --out benchmarks/previews.json

bench-quick: install ## see that the benchmarks work, in a minute
	$(BIN)/python -m benchmarks --quick

bench-dataset: install ## send a gigabyte through apps/dataset, and measure the server's memory (a minute)
	$(BIN)/python -m benchmarks.dataset

# Where there is an index; the folder travels to the GPU machine, which may have none.
gpu-wheels: install ## fetch what a GPU machine may lack: wheels for GPU_PYTHON
	$(BIN)/python -m benchmarks.wheels fetch gpu-wheels --python $(GPU_PYTHON) --platform $(GPU_PLATFORM)

gpu: ## on a GPU machine: its tests, previews beside a full-size SDXL UNet, steps after a cancel (eight minutes)
	$(PYTHON) -m benchmarks.wheels install gpu-wheels gpu-site
	PYTHONPATH=gpu-site:src:client_sdk/python/src $(PYTHON) -m benchmarks.gpu --out $(OUT) $(GPU_FLAGS)

# What needs no torch: handlers of Runpod's, and rooms.
benchmarks/.venvs/%/.installed: benchmarks/peers/%/requirements.txt
	$(PYTHON) -m venv $(@D)
	$(if $(filter runpod broadcaster,$*),,$(@D)/bin/python -m pip install --quiet --disable-pip-version-check "$(TORCH)" psutil)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

tests/.venvs/%/.installed: tests/%-requirements.txt
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

# Without npm the tests that need it are skipped.
%/node_modules/.installed: %/package-lock.json
	@if command -v npm >/dev/null; then npm ci --prefix $(<D) --no-audit --no-fund --loglevel=error && touch $@; fi

playground: src/streamapp/playground/source/node_modules/.installed ## build the page anew; commit it with its source
	npm run build --prefix src/streamapp/playground/source

api-docs: src/streamapp/swagger/source/node_modules/.installed ## copy the API's page from its package anew; commit it
	npm run build --prefix src/streamapp/swagger/source

editor-page: apps/editor/source/node_modules/.installed ## build the page of apps/editor anew; commit it with its source
	npm run build --prefix apps/editor/source

screenshots: install chromium ## take the READMEs' pictures of the page anew
	SCREENSHOTS=docs $(BIN)/python -m pytest tests/test_playground.py -k "step_by_step or fits_on_a_phone" --all
	SCREENSHOTS=1 $(BIN)/python -m pytest tests/test_page_film.py --all
	SCREENSHOTS=1 $(BIN)/python -m pytest tests/test_app_chat_page.py -k as_it_comes --all
	SCREENSHOTS=1 $(BIN)/python -m pytest tests/test_app_editor_page.py -k two_write
	SCREENSHOTS=1 $(BIN)/python -m pytest tests/test_app_live.py -k "becomes_a_picture_while"
	SCREENSHOTS=1 $(BIN)/python -m pytest tests/test_app_audio.py -k heard
	SCREENSHOTS=1 $(BIN)/python -m pytest tests/test_app_voxels_page.py -k grows
	SCREENSHOTS=1 $(BIN)/python -m pytest tests/test_app_llm.py -k seen_growing --all

pictures: OUT = out/pictures
pictures: install chromium ## draw each state of the page, light and dark, to be looked at, into out/pictures
	$(BIN)/python -m tests.page_pictures $(OUT)

coverage: install ## hold each module's coverage by its own test file
	nice -n 5 $(BIN)/python -m tests.own_coverage # beside the tests it takes what they leave

docs: install tests/.venvs/docs/.installed ## build the documentation's site, strictly, into out/docs/site
	$(BIN)/python -m tests.documentation.assemble out/docs
	cd out/docs && ../../tests/.venvs/docs/bin/zensical build --strict --config-file zensical.toml

reference: install ## write the tables of docs/reference anew, from the code
	$(BIN)/python -m tests.documentation.reference

build: install client_sdk/js/node_modules/.installed ## build both wheels, and the npm package, into dist/
	rm -rf dist
	$(BIN)/python -m build --no-isolation --outdir dist .
	$(BIN)/python -m build --no-isolation --outdir dist client_sdk/python
	@if command -v npm >/dev/null; then npm pack ./client_sdk/js --pack-destination dist --loglevel=error; fi

release-check: build tests/.venvs/packaging/.installed ## build, and see that it can be released, and comes out the same each time
	PYTHON=$(abspath $(BIN)/python) .ci/release

# Its packages are the next versions' counterparts in the tests.
freeze: build ## keep what this version sends, and its packages, in tests/versions; commit them, and then tag
	$(BIN)/python -m tests.versions freeze

train: install ## train the embedded model anew (an hour on 2 cores)
	$(BIN)/python -m apps.sdxl.tiny.train --out apps/sdxl/tiny/model

evaluate: install ## measure the embedded model's gates
	$(BIN)/python -m apps.sdxl.tiny.evaluate

train-llm: install ## train the embedded language model anew
	$(BIN)/python -m apps.llm.tiny.train --out apps/llm/tiny/model

evaluate-llm: install ## measure the embedded language model's gates
	$(BIN)/python -m apps.llm.tiny.evaluate

train-text: install ## train the embedded text models anew, from the corpora in the folder DATA
	$(BIN)/python -m apps.text.tiny.train --data $(DATA) --out apps/text/tiny

evaluate-text: install ## measure the embedded text models' gates, by the corpora in the folder DATA
	$(BIN)/python -m apps.text.tiny.evaluate --data $(DATA)

clean: ## remove what the targets made
	rm -rf tests/.venvs tests/js/node_modules client_sdk/js/node_modules client_sdk/js/dist
	rm -rf gpu-wheels gpu-site
	rm -rf $(VENV) dist out .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage
