# The menu. `make run` needs Python 3.11+; README.md says where it needs a redis-server, too.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
NOT_INSTALLED = echo "llm-proxy: pip could not install what is needed, see above: is PyPI, or PIP_INDEX_URL, within reach?" >&2; exit 1

unexport PYTHONDONTWRITEBYTECODE  # where it is set, each of many processes would compile everything anew

.PHONY: help run demo test browser clients chaos soak bench fuzz screenshots fresh dist package rolling image engine coverage mutants compat lint flower lock clean

help:  ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

run: $(VENV)/runtime  ## serve on :3030 (PORT, REDIS_URL and LLM_PROXY_… as in README.md)
	@$(BIN)/python -m tasks up

demo: $(VENV)/dev  ## the same stack against a simulated upstream: no key needed, ends by itself
	@$(BIN)/python -m examples.demo

test: $(VENV)/dev browser  ## all tests: unit, integration, system
	@$(BIN)/python -m pytest -n 5 --dist loadfile --no-loadscope-reorder tests

browser: $(VENV)/dev
	@$(BIN)/python -m tests.browser

coverage: $(VENV)/dev browser  ## branch coverage of web/ and tasks/, in all processes that the tests start (TESTS=…)
	@$(BIN)/coverage erase
	@$(BIN)/coverage run -m pytest -n 5 --dist loadfile --no-loadscope-reorder $(or $(TESTS),$(addprefix tests/,unit integration relay providers clients system)) \
	  || echo "coverage: some tests failed, what they did counts all the same"
	@$(BIN)/coverage combine --quiet && $(BIN)/coverage report --skip-covered --show-missing

mutants: $(VENV)/dev .mutants/ready  ## what no test notices when the code is changed (PART=pure or stages)
	@.mutants/bin/python -m tests.mutants --part $(or $(PART),pure)

clients: $(VENV)/dev .clients/ready  ## what old and new SDKs see of a slow batch, behind a balancer too (haproxy)
	@$(BIN)/python -m pytest tests/clients/test_*.py tests/clients/long_*.py

compat: $(VENV)/dev  ## every client of README's "Works with", installed and asked; writes its table anew (ONLY="curl or litellm")
	@$(BIN)/pip install --quiet uv && $(BIN)/python -m tests.compat.install
	@$(BIN)/python -m pytest tests/compat/long_clients.py $(if $(ONLY),-k "$(ONLY)")
	@$(BIN)/python -m tests.compat.table

chaos: $(VENV)/dev  ## five minutes of random kills and faults (SEED=…, MODE=batch or sync, KEYLESS=0.3)
	@$(BIN)/python -m tests.chaos --mode $(or $(MODE),batch) $(if $(SEED),--seed $(SEED)) --keyless $(or $(KEYLESS),0)

soak: $(VENV)/dev  ## 100,000 requests, then what stays in Redis
	@$(BIN)/python -m tests.soak

rolling: $(VENV)/dev  ## two versions side by side on one Redis, upgraded and taken back under load (OLD=commit)
	@$(BIN)/python -m tests.rolling $(or $(OLD),HEAD~1)

image: $(VENV)/dev  ## the Dockerfile's steps in a clean Debian tree, each process started in it (root, debootstrap)
	@$(BIN)/python -m tests.image $(if $(MIRROR),--mirror $(MIRROR)) $(if $(SHARE),--share $(SHARE))

engine: $(VENV)/dev  ## docker-compose.yml, the image and systemd's units in a Docker engine, under kills (Compose 2.24)
	@$(BIN)/python -m tests.engine

screenshots: $(VENV)/dev browser  ## the dashboard's pictures in docs/
	@SCREENSHOTS=1 $(BIN)/python -m pytest -q tests/system/test_dashboard.py -k every_state

bench: $(VENV)/dev  ## how fast, how small (RUNS=5, ONLY="1000 20000", OUTPUT=file); an hour for five runs of everything
	@$(BIN)/python -m tests.bench --runs $(or $(RUNS),1) $(if $(ONLY),--only $(ONLY)) $(if $(OUTPUT),--output $(OUTPUT))

fuzz: $(VENV)/dev .fuzz/ready  ## ten minutes of random input for each parser and endpoint of ours (SECONDS=…, SEED=…)
	@$(BIN)/python -m tests.fuzz --seconds $(or $(SECONDS),600) --seed $(or $(SEED),1) \
	  --schemathesis "$(CURDIR)/.fuzz/bin/schemathesis"

fresh: $(VENV)/dev  ## README's first commands in a fresh clone with an empty home, to the first answer, timed
	@$(BIN)/python -m pytest -s tests/system/long_clone.py

dist: $(VENV)/dev  ## sdist and wheel of the last commit in dist/, the same bytes each time
	@$(BIN)/python .ci/package.py dist

package: $(VENV)/dev  ## install the wheel for each of PYTHONS="python3.11 …" and start it from an empty directory
	@PYTHONS="$(or $(PYTHONS),$(PYTHON))" $(BIN)/python -m pytest tests/system/long_package.py

lint: $(VENV)/dev  ## ruff, mypy, bandit, hadolint, pip-audit
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/hadolint Dockerfile
	@$(BIN)/bandit --quiet --recursive web tasks celeryconfig.py .ci
	@$(BIN)/python .ci/audit.py requirements.txt

flower: $(VENV)/dev  ## watch the pipeline of a running stack on :5555
	@$(BIN)/celery --app tasks.flower flower --address=127.0.0.1

lock:  ## write the lock files anew
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	  pyproject.toml -o requirements.txt
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	  pyproject.toml --group dev -c requirements.txt -o requirements-dev.txt

clean:  ## remove the virtual environment and caches, never data
	rm -rf $(VENV) .fuzz .mutants .coverage build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info

$(VENV)/python:
	@command -v $(PYTHON) >/dev/null || { \
	  echo "llm-proxy: there is no $(PYTHON) here: install Python 3.11 or newer, or set PYTHON=…" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit("llm-proxy: Python 3.11 or newer is needed, this is " + sys.version.split()[0] + ": set PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	@echo "llm-proxy: setting up $(VENV)"
	@$(PYTHON) -m venv $(VENV) || { echo "llm-proxy: the module venv is missing: apt-get install python3-venv" >&2; exit 1; }
	@touch $@

$(VENV)/runtime: requirements.txt | $(VENV)/python
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt || { $(NOT_INSTALLED); }
	@touch $@

$(VENV)/dev: requirements-dev.txt | $(VENV)/python
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt || { $(NOT_INSTALLED); }
	@touch $@ $(VENV)/runtime

# It brings two score of packages, web frameworks among them, that nothing else here needs.
.fuzz/ready: | $(VENV)/python
	@$(PYTHON) -m venv .fuzz && .fuzz/bin/pip install --quiet schemathesis==4.32.5
	@touch $@

# Beside the project's packages, which it imports: it brings a text interface that nothing else here needs.
.mutants/ready: | $(VENV)/dev
	@$(BIN)/python -m venv .mutants && .mutants/bin/pip install --quiet mutmut==3.8.1
	@for path in .mutants/lib/python*/site-packages; do \
	  $(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > $$path/project.pth; done
	@touch $@

# SDKs that cannot live beside the one in $(VENV).
.clients/ready: tests/clients/programs/package.json | $(VENV)/dev
	@$(BIN)/python -m venv .clients/python1 && .clients/python1/bin/pip install --quiet openai==1.109.1
	@mkdir -p .clients/node && cp tests/clients/programs/package.json tests/clients/programs/ask.mjs .clients/node
	@cd .clients/node && PATH="$(CURDIR)/$(BIN):$$PATH" npm install --no-audit --no-fund --silent
	@touch $@
