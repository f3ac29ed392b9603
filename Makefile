# `make` lists the targets. Everything is written to .venv/, build/ and out/ of this checkout.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup test lint format demo docs clean distclean

VENV := $(CURDIR)/.venv
CACHE := $(CURDIR)/build/cache
PYTEST_ARGS ?= -n 2 --dist loadfile

# What libraries would otherwise write into the home folder.
export MPLCONFIGDIR ?= $(CACHE)/matplotlib
export ROS_LOG_DIR ?= $(CACHE)/ros_log
export ROS_HOME ?= $(CACHE)/ros
export TORCH_HOME ?= $(CACHE)/torch
export HF_HOME ?= $(CACHE)/huggingface
export XDG_CACHE_HOME ?= $(CACHE)/xdg
export TORCHINDUCTOR_CACHE_DIR ?= $(CACHE)/inductor
export TRITON_CACHE_DIR ?= $(CACHE)/triton

# The start-up hook of the ROS wheels sets this; inherited from another environment, it would keep ours from running.
unexport _ROS_WHEELS_BOOTSTRAP_COMPLETE

# Beside a sourced ROS 2, the loader has to be told where our messages' type supports are.
ifdef ROS_DISTRO
export LD_LIBRARY_PATH := $(VENV)/lib:$(LD_LIBRARY_PATH)
endif

help: ## this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

setup: ## virtual environment with all packages, ROS 2 and the messages (quick when nothing changed)
	@bash scripts/ctrl_c.sh setup bash scripts/setup.sh

test: setup ## every test (PYTEST_ARGS="-n 0 -k camera" for some)
	$(VENV)/bin/python -m pytest $(PYTEST_ARGS)

lint: setup ## ruff and mypy
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

format: setup ## ruff format, and the fixes that ruff is sure of
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

demo: setup ## drive a synthetic town through the real node; look at out/demo/drive.mp4 and map.png
	@bash scripts/ctrl_c.sh demo $(VENV)/bin/python scripts/demo.py --out out/demo

docs: setup ## the documentation as a site, links checked; out/site/index.html
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/python -m mkdocs build

clean: ## remove what was built and written, keep the environment and the download cache
	rm -rf out .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@if [ -d build ]; then find build -mindepth 1 -maxdepth 1 ! -name cache -exec rm -rf {} +; fi

distclean: clean ## remove the environment and the download cache as well
	rm -rf .venv build *.egg-info
