PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed
PICTURES = $(shell $(BIN)/python -c "import skimage; print(skimage.__path__[0])")/data

.PHONY: install quickstart test lint format clean

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

# The main job on the embedded model and on photographs that come with the dependencies.
quickstart: install
	$(BIN)/fsiqa metatrain
	$(BIN)/fsiqa adapt --shots 20%
	$(BIN)/fsiqa score runs/adapt $(PICTURES)/coffee.png $(PICTURES)/chelsea.png --csv runs/scores.csv

test: install
	$(BIN)/python -m pytest

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) runs dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
