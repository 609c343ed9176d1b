# Each target sets itself up on a fresh machine: it needs Python 3.11 or 3.12, make and a package index, nothing else.
#
#   make demo     the whole chain on generated phantoms, some minutes on two CPU cores, ends in a report
#   make demo-vqa a small vision-language model trained, asked and scored on easy-vqa, within ten minutes on two cores
#   make demo-colonoscopy   phases of made-up colonoscopies by nine temporal networks, ends in a report
#   make test     all tests but the longest: those are in make test-long (stop and resume, real volumes, whole workflows)
#   make test-cluster   those that need Slurm: installs a real one by apt where it is missing, runs it on this machine
#   make test-hospital   DICOM objects by dciodvfy, plastimatch, highdicom and Orthanc (installed by apt), a minute of fuzzing
#   make check    ruff, pyright, import contract
#   make bench    every benchmark      make wheel    the package, with workflows, overlays and manifests inside
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.installed

.PHONY: setup demo demo-vqa demo-colonoscopy test test-long test-cluster test-hospital check format bench wheel clean

setup: $(READY)

# torch stands on the same command as the rest, so that the index's build is chosen once for all of it.
$(READY): pyproject.toml requirements/pinned.txt
	@$(PYTHON) -c 'import sys; ok = (3, 11) <= sys.version_info < (3, 13); sys.exit(None if ok else "medpipe needs Python 3.11 or 3.12; name one by: make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check torch==2.13.0 -c requirements/pinned.txt -e '.[dev]'
	$(BIN)/python -c 'from medpipe.metrics.label_maps import warm_up; warm_up()'  # compiles the search, kept on disk
	touch $(READY)

demo: $(READY)
	$(BIN)/medpipe run gynecologic_brachytherapy --overlay demo

demo-vqa: $(READY)
	$(BIN)/medpipe run visual_question_answering

demo-colonoscopy: $(READY)
	$(BIN)/medpipe run colonoscopy_phases --overlay demo

test: $(READY)
	$(BIN)/python -m pytest -m "not long and not cluster and not hospital"

test-long: $(READY)
	$(BIN)/python -m pytest -m "long and not cluster and not hospital"

# Debian's and Ubuntu's packages; installing them starts no service. Where they cannot be had, this fails.
SLURM := slurmctld slurmd munged shellcheck
test-cluster: $(READY)
	@for program in $(SLURM); do command -v $$program >/dev/null || missing=yes; done; \
	if [ "$$missing" ]; then echo "installing slurm-wlm, munge and shellcheck by apt"; apt-get update -qq && \
	    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends slurm-wlm munge shellcheck >/dev/null; fi; \
	for program in $(SLURM); do command -v $$program >/dev/null || { echo "$$program could not be installed" >&2; exit 1; }; done
	$(BIN)/python -m pytest -m cluster

# Checkers, readers and an archive that are not ours, from Debian: installs what is missing, and fails where it cannot.
test-hospital: $(READY)
	tests/hospital/install.sh
	$(BIN)/python -m pytest -m hospital tests/hospital

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(READY)
	set -e; for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python $$script; done

wheel: $(READY)
	$(BIN)/python -m build --wheel --outdir dist

clean:
	rm -rf $(VENV) dist build .pytest_cache .ruff_cache
