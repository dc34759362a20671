# Every target makes .venv itself. `make grade` and `make test` are the two to know.
PYTHON ?= python3
VENV := .venv
KERNEL := /boot/vmlinuz-*-cloud-amd64
BOX := --timeout 1200 --attempts 3 --memory 3G
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
SETUP := pyproject.toml setup.py minivmm/kvm/abi.h minivmm/kvm/build_ffi.py minivmm/soft/build_native.py \
	$(wildcard minivmm/soft/native/*)

.PHONY: grade test test-kvm lab bench guests release linux linux-kvm clean

grade: $(VENV)/.base ## grades the reference solutions on the best backend here
	$(BIN)/autograder grade solutions

test: $(VENV)/.test ## lint, types, and the whole test suite
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -n auto --dist loadgroup

test-kvm: $(VENV)/.test ## what needs a real KVM, on an upstream one inside QEMU (Debian packages: see tools/box.py)
	$(BIN)/python tools/box.py $(BOX) -- $(BIN)/python -m pytest -q -p no:cacheprovider tests/conformance
	$(BIN)/python tools/box.py $(BOX) -- $(BIN)/python -m pytest -q -p no:cacheprovider tests/system

linux: build/initrd ## boots Debian's cloud kernel to a shell, without hardware (Debian packages: see tools/initramfs.py)
	$(BIN)/minivmm run $(lastword $(sort $(wildcard $(KERNEL)))) --initrd $< --accel soft

linux-kvm: build/initrd $(VENV)/.test ## the same on an upstream KVM inside QEMU
	$(BIN)/python tools/box.py --terminal -- \
		$(BIN)/minivmm run $(lastword $(sort $(wildcard $(KERNEL)))) --initrd $< --accel kvm

build/initrd: $(VENV)/.base tools/initramfs.py
	@mkdir -p $(@D)
	$(BIN)/python tools/initramfs.py $@

lab: $(VENV)/.lab ## opens the labs in JupyterLab
	$(BIN)/jupyter lab $(if $(filter 0,$(shell id -u)),--allow-root) $(JUPYTER_ARGS) labs

bench: $(VENV)/.base ## speed and memory, as ratios to named baselines
	$(BIN)/python -m benchmarks

guests: $(VENV)/.base ## rebuilds the guest images (needs binutils)
	$(BIN)/python guests/build.py

release: $(VENV)/.base ## makes labs/ from solutions/
	$(BIN)/autograder release

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "minivmm needs Python 3.11 or later: make PYTHON=python3.12 …" >&2; exit 2; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "This Python has no venv: on Debian or Ubuntu, sudo apt install python3-venv." >&2; exit 2; }

$(VENV)/.base: $(BIN)/python $(SETUP)
	$(PIP) install --editable .
	@touch $@

$(VENV)/.test $(VENV)/.lab: $(VENV)/.%: $(VENV)/.base
	$(PIP) install --editable '.[$*]'
	@touch $@

clean:
	rm -rf $(VENV) build *.egg-info minivmm/kvm/_kvm.*
