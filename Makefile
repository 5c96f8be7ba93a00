# Needs make and Python 3.12 or newer, or uv. uv is used where it runs and installs the same locked files.
UV ?= uv
HAVE_UV = $(UV) --version >/dev/null 2>&1
COMPILE = $(UV) pip compile --quiet --universal --generate-hashes --no-emit-index-url \
	--custom-compile-command 'make lock' $(FLAGS) pyproject.toml

# Without it, each process of the tests would compile every module again.
unexport PYTHONDONTWRITEBYTECODE

.DELETE_ON_ERROR:
.PHONY: setup run test test-fast check fix docs screenshots check-go check-deploy check-image check-upgrade fleet webhooks bench bench-scale lock clean

setup: .venv/requirements.installed

run: setup
	@echo 'Serving the demo; Ctrl-C ends it. README.md, "The first five minutes", says what to try.'
	.venv/bin/firmtrail serve --demo

# Two processes more than there are cores, because tests wait for half of their time: each starts databases of its own.
# PROCESSES=0 runs all in one, for a debugger.
CORES := $(shell getconf _NPROCESSORS_ONLN)
PROCESSES := $(shell expr $(CORES) + 2)
test: .venv/requirements-dev.installed
	.venv/bin/python -m pytest -n $(PROCESSES) --dist worksteal

# The rules, and a thin slice of the service on SQLite: less than half a minute. CONTRIBUTING.md says what it leaves out.
FAST = core architecture_test.py docs_test.py service/operations_test.py service/reports_test.py
test-fast: .venv/requirements-dev.installed
	.venv/bin/python -m pytest -q -n $(CORES) --dist worksteal -m 'not slow' -k 'not postgres' $(FAST:%=tests/%)

check: .venv/requirements-dev.installed
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy --explicit-package-bases firmtrail tests benchmarks

# Corrects the findings that ruff can correct, and formats.
fix: .venv/requirements-dev.installed
	.venv/bin/ruff check --fix
	.venv/bin/ruff format

# Writes the parts of docs/ that follow from the code: events, metrics, options, imports.
docs: .venv/requirements-dev.installed
	.venv/bin/python -m tests.docs

# Makes the pictures in docs/pictures with Debian's chromium, from the demo's fleet.
screenshots: .venv/requirements-dev.installed
	.venv/bin/python -m tests.browser.screenshots

# Needs Debian's golang-go and golang-golang-x-mod-dev: see tests/end_to_end/check_go.py.
check-go: .venv/requirements-dev.installed
	.venv/bin/python -m pytest tests/end_to_end/check_go.py

# The image, built and run by docker or podman: see tests/end_to_end/check_image.py. Fails where neither works.
check-image: .venv/requirements-dev.installed
	.venv/bin/python -m pytest tests/end_to_end/check_image.py

# The Containerfile and the Helm chart, by hadolint, Helm and Kubernetes's schemas: see tests/end_to_end/check_deploy.py.
check-deploy: .venv/requirements-dev.installed .venv/requirements-deploy.installed
	.venv/bin/python -m pytest tests/end_to_end/check_deploy.py

# Servers of an older commit and of this version on one PostgreSQL, under load: make check-upgrade OLD=COMMIT SECONDS=600
SECONDS = 60
check-upgrade: .venv/requirements-dev.installed
	FIRMTRAIL_TEST_OLD=$(OLD) FIRMTRAIL_TEST_SECONDS=$(SECONDS) \
		.venv/bin/python -m pytest -qs tests/end_to_end/check_upgrade.py

# A steered fleet against a server of its own, and the audits of its log: make fleet DEVICES=50000 ON=postgres
# PLAN=1 plays a plan of four phases instead, and a release that stops itself in the first of them.
DEVICES = 1000
ON = sqlite
PLAN =
fleet: .venv/requirements-dev.installed
	FIRMTRAIL_TEST_FLEET=$(DEVICES) .venv/bin/python -m pytest -qs tests/end_to_end/simulate_test.py -k '$(if $(PLAN),planned,steered)_fleet_gets and $(ON)'

# Webhooks to a receiver that fails, is away, and meets servers that are killed: make webhooks EVENTS=100000 ON=postgres
EVENTS = 100000
webhooks: .venv/requirements-dev.installed
	FIRMTRAIL_TEST_EVENTS=$(EVENTS) .venv/bin/python -m pytest -qs tests/end_to_end/webhooks_test.py -k 'whatever_fails and $(ON)'

bench: .venv/requirements-bench.installed
	.venv/bin/python -m benchmarks

bench-scale: .venv/requirements-bench.installed
	.venv/bin/python -m benchmarks --scale

# make lock FLAGS=--upgrade takes the newest versions; without, only what pyproject.toml asks for changes.
lock:
	$(COMPILE) -o requirements.lock
	$(COMPILE) --group dev -c requirements.lock -o requirements-dev.lock
	$(COMPILE) --group deploy -c requirements-dev.lock -o requirements-deploy.lock
	$(COMPILE) --group bench -c requirements-dev.lock -o requirements-bench.lock

clean:
	rm -rf .venv .hypothesis .mypy_cache .pytest_cache .ruff_cache .schemathesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/bin/python:
	@echo 'Making a virtual environment in .venv …'
	@if $(HAVE_UV) && $(UV) venv --quiet --seed .venv; then exit; fi; \
	for python in python3.13 python3.14 python3.12 python3 $(HOME)/.pyenv/versions/3.*/bin/python; do \
		if $$python -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null; \
		then exec $$python -m venv .venv; fi; \
	done; echo 'Firmtrail needs Python 3.12 or newer, or uv.' >&2; exit 1

.venv/requirements-dev.installed: requirements-alone.lock

# The locks agree with each other, so installing one adds to the others.
.venv/%.installed: %.lock pyproject.toml | .venv/bin/python
	@echo 'Installing what $< names into .venv: this takes a minute or two, the first time …'
	@if $(HAVE_UV); \
	then install="$(UV) pip install --quiet --compile-bytecode --python .venv"; \
	else install=".venv/bin/python -m pip install --quiet --disable-pip-version-check"; fi; \
	$$install --require-hashes -r $< && $$install --no-deps --editable . && \
	case $@ in *dev*) $$install --no-deps --require-hashes -r requirements-alone.lock;; esac
	@touch $@
	@echo 'Installed.'
