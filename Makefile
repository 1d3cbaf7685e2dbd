# `make quickstart` and `make test` set up .venv by themselves; a second call installs nothing.
SHELL := bash
.SHELLFLAGS := -o pipefail -c
PYTHON ?= $(firstword $(shell command -v python3.11 || command -v python3))
VENV := .venv
READY := $(VENV)/.ready
# One process, two cores: without this, small tensors lose more to threads than they gain.
export TOKENIZERS_PARALLELISM ?= false

.PHONY: quickstart test test-oldest test-newest parallel-test wheel-test slow-test docs-test style docs bench clean repository version index

quickstart: $(READY)
	@$(VENV)/bin/code-alpaca quickstart

test: $(READY)
	$(VENV)/bin/python -m pytest -n 3 --dist worksteal

# The releases that setup.cfg admits at least and at most; constraints.txt is not read.
test-oldest: .venv-oldest/.ready
	.venv-oldest/bin/python -m pytest -n 3 --dist worksteal

test-newest: .venv-newest/.ready
	.venv-newest/bin/python -m pytest -n 3 --dist worksteal

parallel-test: $(READY)
	$(VENV)/bin/python -m pytest -m parallel

wheel-test: $(READY)
	$(VENV)/bin/python -m pytest -m wheel

slow-test: $(READY)
	$(VENV)/bin/python -m pytest -m "slow"

docs-test: $(READY)
	$(VENV)/bin/python -m pytest -m "slow or not slow" tests/test_docs_run.py

style: $(READY)
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

# Works offline; a broken link fails (strict: true in mkdocs.yml). The variable silences a notice.
docs: $(READY)
	@NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --quiet --clean
	@echo "site/index.html"

bench: $(READY)
	@for script in $(filter-out benchmarks/peers.py,$(wildcard benchmarks/*.py)); do echo "== $$script"; $(VENV)/bin/python $$script || exit 1; done

clean:
	rm -rf $(VENV) .venv-oldest .venv-newest runs site

# Where strangers install the package from: each of these rewrites every place that repeats it
# (CONTRIBUTING.md, "Release the package"); tests/test_install_source.py finds one that differs.
REPOSITORY = $(shell sed -n 's/^ *Repository = //p' setup.cfg)
RELEASED = $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' src/code_alpaca/__init__.py)
REWRITE = git grep -lIE '$(REPOSITORY)|code-alpaca(\[[a-z,]+\])?==' | xargs sed -i -E

# make repository URL=https://github.com/ORG/code-alpaca
repository:
	$(REWRITE) 's#$(REPOSITORY)#$(URL)#g'

# make version VERSION=0.2.0
version:
	$(REWRITE) 's#($(REPOSITORY)[@/.#a-z]*v|code-alpaca(\[[a-z,]+\])?==)$(RELEASED)#\1$(VERSION)#g'
	sed -i 's/^version: .*/version: $(VERSION)/' CITATION.cff
	sed -i 's/^__version__ = .*/__version__ = "$(VERSION)"/' src/code_alpaca/__init__.py

# After the first upload to PyPI
index:
	$(REWRITE) 's#(code-alpaca(\[[a-z,]+\])?) @ git\+$(REPOSITORY)@v#\1==#g'
	sed -i '/^ *Repository = /a\    Index = https://pypi.org/project/code-alpaca' setup.cfg

define CHECK_TOOLS
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: install it, or make PYTHON=/path/to/python"; exit 2; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; $(PYTHON) is older: make PYTHON=/path/to/python"; exit 2; }
	@"$(PYTHON)" -c 'import venv, ensurepip' 2>/dev/null || { echo "$(PYTHON) cannot create an environment: install its venv module (apt install python3-venv)"; exit 2; }
	@command -v gcc >/dev/null || { echo "gcc is needed: install a C compiler (apt install gcc libc6-dev)"; exit 2; }
endef

# deepspeed is built from source; its build wants setuptools, wheel and torch at hand.
$(READY): setup.cfg pyproject.toml constraints.txt
	$(CHECK_TOOLS)
	@echo "installing the tested versions into $(VENV): 2 GB with a CPU build of torch, 6 GB with CUDA; this takes minutes"
	@"$(PYTHON)" -m venv $(VENV)
	@$(VENV)/bin/python -m pip install --disable-pip-version-check --progress-bar off -c constraints.txt -e '.[dev]' \
		| awk '/^ *(Downloading|Building|Installing|Successfully built)/ {sub(/https?:[^ ]*\//, ""); print substr($$0, 1, 100); fflush()}'
	@touch $(READY)

# pip has no option for the oldest releases, so uv resolves both. `make clean` forgets what was newest.
.venv-oldest/.ready: RESOLUTION := lowest-direct
.venv-newest/.ready: RESOLUTION := highest
.venv-oldest/.ready .venv-newest/.ready: setup.cfg pyproject.toml
	$(CHECK_TOOLS)
	@echo "installing into $(@D), resolution $(RESOLUTION): up to 8 GB, most of it torch with CUDA; this takes minutes"
	@"$(PYTHON)" -m venv --clear $(@D)
	@$(@D)/bin/python -m pip install --disable-pip-version-check --quiet uv
	@$(@D)/bin/uv pip install --python $(@D)/bin/python --quiet --resolution $(RESOLUTION) -e '.[dev]'
	@touch $@
