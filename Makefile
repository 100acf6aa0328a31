# Thin aliases. tools/test makes .venv; everything here uses it.
PYTHON = .venv/bin/python

.PHONY: check test sim cluster chaos posix bench lock

check: $(PYTHON) ## before every commit: under a minute, no root
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m ruff check .
	$(PYTHON) -m mypy
	$(PYTHON) -m tools.tidy
	$(PYTHON) -m pytest -q tests/unit

test: ## everything, with all set-up: needs root
	tools/test

sim: $(PYTHON) ## SEED=n replays one seed, SEEDS=n plays n runs from there; SCENARIO=name[,name]|all
	$(PYTHON) -m tests.simulation.run $(if $(SEED),--seed $(SEED)) $(if $(SEEDS),--seeds $(SEEDS)) $(if $(SCENARIO),--scenario $(SCENARIO))

cluster: $(PYTHON) ## real processes and kernel mounts: needs root
	unshare --mount $(PYTHON) -m pytest tests/cluster

chaos: $(PYTHON) ## ROUNDS=n of faults on real processes and mounts [SEED=n] [FAULT=name]: needs root
	$(PYTHON) -m tests.chaos $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(SEED),--seed $(SEED)) $(if $(FAULT),--fault $(FAULT))

posix: $(PYTHON) ## every system call on a real mount: needs root
	@if [ -n "$$(find tests/posix -name 'test_*.py' 2>/dev/null)" ]; \
	then unshare --mount $(PYTHON) -m pytest tests/posix; \
	else echo "no tests/posix yet: POSIX meaning is compared with a local directory in tests/property, and on a mount in tests/cluster"; fi

bench: $(PYTHON) ## DIR=mount point|dfs [AGAINST="directory moosefs ..."]
	$(PYTHON) -m tools.bench $(foreach one,$(AGAINST),--against $(one)) $(if $(DIR),$(DIR),$(error say which mount point: make bench DIR=...))

lock: ## resolve the dependencies anew
	tools/lock

$(PYTHON):
	@echo "no .venv yet: run tools/test (or tools/up) once, as root" >&2; exit 1
