PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed
PICTURES = $(shell $(BIN)/python -c "import skimage; print(skimage.__path__[0])")/data

.PHONY: install learn2learn quickstart test lint docs readme licences sbom format clean

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

# learn2learn 0.2.0 asks for packages that do not build any more; it needs none of them here.
learn2learn: install
	$(BIN)/python -m pip install --quiet --constraint constraints.txt gym requests tqdm
	$(BIN)/python -m pip install --quiet --no-deps learn2learn==0.2.0 --config-settings="--build-option=build_ext"

# The main job on the embedded model and on photographs that come with the dependencies.
quickstart: install
	$(BIN)/fsiqa metatrain
	$(BIN)/fsiqa adapt --shots 20%
	$(BIN)/fsiqa score runs/adapt $(PICTURES)/coffee.png $(PICTURES)/chelsea.png --csv runs/scores.csv

# One process a core, of one thread each: several threads in several processes take many times as long.
test: export OMP_NUM_THREADS := 1
test: install
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --nbmake --nbmake-timeout=300 notebooks

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Checked strictly: a link, a name or a page that is not there is an error.
docs: install
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# Runs the blocks of the README and of the first page of the site, and puts what they print there; those that need real
# ratings with DATA="--data biq2021=FOLDER".
readme: install
	$(BIN)/python docs/run_blocks.py README.md docs/getting-started.md $(DATA)

licences: install
	$(BIN)/python docs/licences.py

# What is installed, as CycloneDX writes it; the tool and what it needs have an environment of their own.
sbom: install
	$(PYTHON) -m venv $(VENV)/sbom
	$(VENV)/sbom/bin/python -m pip install --quiet cyclonedx-bom==7.5.0
	mkdir -p dist
	$(VENV)/sbom/bin/cyclonedx-py environment $(BIN)/python --pyproject pyproject.toml --mc-type library \
		--output-reproducible --output-file dist/sbom.json

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) dist site .pytest_cache .mypy_cache .ruff_cache .hypothesis
