# make run: set up and serve.  make test: set up and test.  Neither needs anything before it but Python 3.11.
PYTHON ?= python3
VENV := .venv
# Test processes: they wait more than they compute.
JOBS ?= 4
PY := $(VENV)/bin/python

.PHONY: run setup dev test test-slow test-services e2e bench scale drill demo check chaos translations

run: setup
	@exec $(PY) manage.py server run

setup: $(VENV)/runtime.stamp
dev: $(VENV)/dev.stamp

$(PY):
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and \"waserver needs Python 3.11 or newer: set PYTHON\" or 0)"
	$(PYTHON) -m venv $(VENV)

$(VENV)/runtime.stamp: requirements.txt requirements-forecast.txt | $(PY)
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements.txt -r requirements-forecast.txt
	@touch $@

$(VENV)/dev.stamp: requirements.txt requirements-forecast.txt requirements-postgres.txt requirements-dev.txt | $(PY)
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $(VENV)/runtime.stamp $@

test: dev
	$(PY) -m pytest -n $(JOBS) --dist loadfile

# The same on real servers: MariaDB, Redis, PostgreSQL for the device keys. They are emptied.
# On MariaDB, Redis and PostgreSQL; TESTS="tests/test_x.py ..." for some files only.
test-services: dev $(VENV)/services.stamp
	$(PY) -m tests.services $(PY) -m pytest -n $(JOBS) --dist loadfile $(TESTS)

$(VENV)/services.stamp: requirements-mysql.txt requirements-postgres.txt | $(VENV)/dev.stamp
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements-mysql.txt -r requirements-postgres.txt
	@touch $@

# Two at a time: they wait for minutes, and some load the machine.
test-slow: dev
	$(PY) -m pytest -m slow -n 2 --dist loadfile

e2e: dev
	$(PY) -m pytest -s -m browser $(or $(TESTS),tests)

# Every measurement, about an hour; writes docs/benchmarks.md. With LONG=1 memory is watched for over an hour more.
bench: dev
	$(PY) bench/everything.py $(if $(LONG),--long)

scale: dev
	$(PY) -m pytest -s -m slow tests/test_scale.py

# make chaos SEED=7 MINUTES=10: random faults over 30 sessions; the seed decides all of them
SEED ?= 1
MINUTES ?= 3
chaos: dev
	$(PY) -m tests.chaos --seed $(SEED) --minutes $(MINUTES)

# The whole emergency, and a rolling restart; says how long each took.
drill: dev
	$(PY) -m pytest -s -q -m slow tests/test_drill.py

demo: dev
	@exec $(PY) -m tests.demo

translations: dev
	$(PY) -m tests.translations

check: dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy .
	$(VENV)/bin/lint-imports
	$(PY) manage.py makemigrations --check --dry-run
	$(PY) -m tests.translations
