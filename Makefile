# Everything a new machine needs is Python ≥ 3.11 and make.
PYTHON ?= python3
VENV := .venv
BUDGET ?= quick

.PHONY: help ood test perf lint clean
help:
	@echo "make ood    run the out-of-distribution suite and write report/ (BUDGET=$(BUDGET))"
	@echo "make test   run the tests, the style checks and the type checks with tox"
	@echo "make perf   measure speed against other libraries, and print one table"
	@echo "make clean  remove the virtual environment and caches; results stay"

ood: $(VENV)/installed
	@$(VENV)/bin/python -m benchmark run --suite ood --budget $(BUDGET); code=$$?; \
	if [ $$code -le 1 ]; then $(VENV)/bin/python -m benchmark report || code=$$?; fi; exit $$code

test: $(VENV)/tox
	$(VENV)/bin/tox run

lint: $(VENV)/tox
	$(VENV)/bin/tox run -e lint

perf: $(VENV)/tox
	$(VENV)/bin/tox run -e perf

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11 …")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: $(VENV)/bin/python pyproject.toml constraints.txt
	$(VENV)/bin/python -m pip install --quiet --no-compile --disable-pip-version-check \
		-c constraints.txt -e .
	@touch $@

$(VENV)/tox: $(VENV)/bin/python constraints.txt
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt tox
	@touch $@

clean:
	rm -rf $(VENV) .tox build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .benchmarks
