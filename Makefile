# Each target works first, on a clean clone: what it needs it makes.
PYTHON ?= python3
# The tests start hundreds of programs; each would compile all of itself anew where this is set.
export PYTHONDONTWRITEBYTECODE :=
BIN := .venv/bin
STORIES := clock-lost full-disk mast-dark monsoon-week stolen-card tamper-night two-headends

.PHONY: demo check types all-tests test simulate bench fuzz mutants promise-mutants format lock clean upgrade sbom wheelhouse package

demo: .venv/ready           ## a village of simulated meters, gateway, broker and head-end on this machine
	$(BIN)/openami demo $(DEMO)

check: .venv/ready          ## format, lint, types, import contracts, all tests
	$(BIN)/ruff format --check src tests benchmarks tools
	$(BIN)/ruff check src tests benchmarks tools
	$(MAKE) --no-print-directory --jobs 2 types all-tests

types:                      # most of a minute of one core, while tests are collected and the first ones wait
	$(BIN)/lint-imports
	$(BIN)/mypy

all-tests:                  # compiled once, and not by each process; more of those than cores: many tests wait for a clock
	-[ -d tests/__pycache__ ] || $(BIN)/pytest -q -n 0 --collect-only >/dev/null
	$(BIN)/pytest -q -n 4 --dist loadgroup

test: .venv/ready           ## the tests alone; T=tests/profile for a part
	$(BIN)/pytest -q $(T)

simulate: .venv/ready       ## ten thousand village-days of thrown faults, each story ten times, each mutant; DAYS=100 for fewer
	$(BIN)/openami simulate --seeds $(or $(DAYS),10000)
	OPENAMI_ALL_SEEDS=1 $(BIN)/pytest -q -n 2 --timeout 900 tests/simulation/test_seeds.py
	for story in $(STORIES); do $(BIN)/openami simulate --scenario $$story --seeds 10 || exit 1; done
	$(BIN)/python -m tools.promise_mutants

bench: .venv/ready          ## the figures of benchmarks/RESULTS.md, measured anew, three hours; BENCH="--quick" or BENCH="ingest sip" for less
	$(BIN)/python -m benchmarks $(BENCH)

upgrade: .venv/ready        ## a village's year, six and a half million readings, brought up to date, backed up and restored
	OPENAMI_UPGRADE_METERS=2000 $(BIN)/pytest -q -n 0 --timeout 1800 --durations=0 tests/headend/test_upgrade.py -k a_year

fuzz: .venv/ready           ## every surface for a minute; FUZZ="store --minutes 60" for one of them (docs/fuzzing.md)
	$(BIN)/python tools/fuzz.py $(FUZZ)

mutants: .venv/ready        ## is each refusal of a signed document missed when it is gone? some 8 minutes
	$(BIN)/python -m tools.mutants $(MUTANTS)

promise-mutants: .venv/ready ## is each promise seen to break when the line that keeps it is gone? half a minute
	$(BIN)/python -m tools.promise_mutants $(MUTANTS)

sbom: .venv/ready           ## dist/openami.cdx.json: what runs with us, and under which licence
	$(BIN)/python -m tools.sbom dist/openami.cdx.json

wheelhouse: .venv/ready     ## dist/wheelhouse: every wheel for a site without Internet, for two processors
	rm -rf dist/wheelhouse
	$(BIN)/python -m tools.wheelhouse dist/wheelhouse

package: wheelhouse         ## dist/openami_VERSION_{amd64,arm64}.deb; as root the one for here is tried in a throwaway root
	PYTHON=$(BIN)/python packaging/debian/build dist/wheelhouse dist amd64
	PYTHON=$(BIN)/python packaging/debian/build dist/wheelhouse dist arm64
	[ "$$(id -u)" != 0 ] || packaging/debian/try dist/openami_*_"$$(dpkg --print-architecture)".deb

format: .venv/ready
	$(BIN)/ruff format src tests benchmarks tools
	$(BIN)/ruff check --fix src tests benchmarks tools

# The pip of Debian 12 (23.0) does not know dependency groups, so it is upgraded first.
.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --editable '.[all]' --group dev --constraint constraints.txt
	touch $@

lock:                       ## write the versions installed now into constraints.txt
	$(BIN)/python -m pip freeze --exclude-editable > constraints.txt

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage .fuzz dist
