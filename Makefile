# The commands for people. A fresh machine needs Python 3.11 or newer, make and access to a package registry.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DEVELOPS := $(VENV)/.develops
PIP := $(BIN)/pip --quiet --disable-pip-version-check
COMPILE := $(BIN)/uv pip compile pyproject.toml --extra fleet --group build --universal --python-version 3.11 \
	--no-header --no-emit-index-url --no-annotate --quiet
MODEL ?=
# Tests start hundreds of Python processes, which would all compile the same modules again.
unexport PYTHONDONTWRITEBYTECODE
# The versions of Python that pyproject.toml promises.
VERSIONS := $(shell sed -n 's/.*:: Python :: \(3\.[0-9]*\)".*/\1/p' pyproject.toml)
# Most of a test's time is waiting: for a worker to start, for a lease to expire, for a model that answers slowly.
PROCESSES ?= 6
PYTEST := $(BIN)/python -m pytest -n $(PROCESSES)
# The tests of all scripts, and those of servers that are full, refuse writes, form a cluster, or are shared with others.
CLIENTS := $(dir $(wildcard tests/clients/*/package.json))
ON_REDIS := tests/scripts $(addprefix tests/integration/,test_memory_search.py test_memory_store.py test_bad_servers.py \
	test_cluster.py test_cluster_nodes.py test_shared_server.py test_store_users.py test_state.py) tests/acceptance/test_full_store.py

.PHONY: help install check test test-versions test-redis test-qdrant ocr adapters demo bench chaos fuzz clients browser foreign-sessions format lock clean

help:  ## list the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

install: $(READY)  ## create .venv with the runtime dependencies, exactly as in requirements.lock

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Sessionfleet needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; exit 1; }
	@echo "installing into $(VENV) (once, about a minute)"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install -r requirements.lock
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $(READY)

$(DEVELOPS): $(READY) requirements-dev.lock
	@echo "adding the test and lint dependencies (once, about half a minute)"
	@$(PIP) install -r requirements-dev.lock
	@touch $(DEVELOPS)

check: $(DEVELOPS)  ## run ruff, mypy --strict and import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: $(DEVELOPS)  ## run all tests, on real servers and real workers, in several processes (PROCESSES=6)
	$(PYTEST)

test-versions:  ## run all tests on each Python that pyproject.toml promises, as far as PATH or pyenv has it
	@status=0; missing=; for version in $(VERSIONS); do \
		found=; for python in python$$version $(HOME)/.pyenv/versions/$$version.*/bin/python; do \
			if "$$python" -c "import sys; sys.exit('%d.%d' % sys.version_info[:2] != '$$version')" 2>/dev/null; \
			then found=$$python; break; fi; \
		done; \
		if [ -z "$$found" ]; then missing="$$missing $$version"; continue; fi; \
		echo "Python $$version: $$found"; \
		$(MAKE) test VENV=.venv-$$version PYTHON="$$found" || { status=1; echo "FAILED on Python $$version" >&2; }; \
	done; \
	[ -z "$$missing" ] || echo "NOT FOUND, so not tested: Python$$missing" >&2; exit $$status

ocr: $(DEVELOPS)  ## test text recognition with the real engine, which this adds to .venv (190 MB)
	@$(PIP) install -r requirements-ocr.lock
	$(BIN)/python -m pytest tests/unit/retrieval/test_recognition.py

test-redis: $(DEVELOPS)  ## run what depends on the server's version on redis-server (Debian: apt-get install redis-server)
	@command -v redis-server >/dev/null || { echo "redis-server not found: install Debian's package of that name" >&2; exit 1; }
	SF_TEST_SERVER=redis-server $(PYTEST) $(ON_REDIS)

test-qdrant: $(DEVELOPS)  ## run the tests of the index and of documents on the Qdrant server at QDRANT_URL, which has no other data
	@test -n "$(QDRANT_URL)" || { echo "say where: make test-qdrant QDRANT_URL=http://127.0.0.1:6333" >&2; exit 1; }
	QDRANT_URL="$(QDRANT_URL)" $(BIN)/python -m pytest tests/unit/retrieval/test_index.py tests/unit/retrieval/test_transfer.py \
		tests/integration/test_knowledge.py tests/integration/test_history_search.py \
		tests/integration/test_gateway_retrieval.py

adapters: $(DEVELOPS)  ## run the tests of all adapters, and the OpenAI Agents SDK's own tests on our session
	$(BIN)/python -m pytest $(wildcard tests/integration/test_adapter_*.py)
	@rm -rf build/adapters && mkdir -p build/adapters
	@$(PIP) download --no-deps --no-binary :all: --dest build/adapters \
		"$$($(BIN)/pip freeze | grep '^openai-agents==')" && $(PIP) install inline-snapshot
	@tar xzf build/adapters/openai_agents-*.tar.gz -C build/adapters --strip-components 1
	cd build/adapters && PYTHONPATH=$(CURDIR):$(CURDIR)/tests/upstream $(abspath $(BIN))/python -m pytest \
		-p openai_agents_sdk -p no:schemathesis -p no:randomly -q -W ignore tests/memory/test_session.py \
		tests/memory/test_session_limit.py tests/memory/test_session_context_wrapper.py tests/deferred_session_writes \
		tests/test_hitl_session_scenario.py

demo: $(READY)  ## kill a worker in the middle of a turn and watch it recover (MODEL=provider:model for a real model)
	@$(BIN)/python examples/demo.py $(if $(MODEL),--model $(MODEL))

bench: $(DEVELOPS)  ## print the benchmark table (takes minutes)
	$(BIN)/python -m benchmarks

chaos: $(DEVELOPS)  ## run the long form of the chaos tests (takes minutes)
	SF_PROPERTY_EXAMPLES=500 SF_CHAOS_SECONDS=240 $(BIN)/python -m pytest tests/chaos tests/properties tests/acceptance -m "" --timeout 900

clients: $(DEVELOPS)  ## test the gateway's protocols with clients from npm (needs node, and chromium for pages)
	@command -v npm >/dev/null || { echo "npm not found: install node" >&2; exit 1; }
	@for client in $(CLIENTS); do npm ci --prefix $$client --no-fund --no-audit --silent || exit 1; done
	$(BIN)/python -m pytest $(wildcard tests/integration/*/test_npm_client.py)

browser: $(DEVELOPS)  ## test the web pages in a real Chromium (Debian: apt-get install chromium)
	@command -v chromium chromium-browser google-chrome >/dev/null || { echo "Chromium not found: install the package chromium" >&2; exit 1; }
	$(BIN)/python -m pytest tests/integration/test_web_page.py tests/integration/test_gateway_docs.py

fuzz: $(DEVELOPS)  ## run Schemathesis against the gateway for ten minutes
	SF_FUZZ_SECONDS=600 $(BIN)/python -m pytest tests/integration/test_gateway_fuzz.py -s --timeout 1200

foreign-sessions: $(DEVELOPS)  ## write the sessions of other libraries again, with those libraries from the registry
	FOREIGN_SESSIONS=1 $(BIN)/python -m pytest tests/unit/test_transfer.py -k libraries

format: $(DEVELOPS)  ## fix and format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: $(DEVELOPS)  ## update the lock files within what pyproject.toml allows
	$(COMPILE) --extra dev --upgrade --output-file requirements-dev.lock
	$(COMPILE) --constraint requirements-dev.lock --output-file requirements.lock
	$(COMPILE) --extra ocr --constraint requirements-dev.lock --output-file requirements-ocr.lock

clean:  ## remove everything that was built
	rm -rf $(VENV) .venv-3.* build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
