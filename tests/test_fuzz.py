"""What fuzzing found, once more, without atheris: small inputs that end as they should. See tests/fuzz/run.py."""

import re
from contextlib import suppress

import pytest

from fewshot_iqa.errors import InputError
from tests.fuzz.seeds import seeds
from tests.fuzz.targets import CORPUS, TARGETS, fault


@pytest.mark.parametrize("name", TARGETS)
def test_no_input_of_the_corpus_is_at_fault(name):
    for path in sorted((CORPUS / name).iterdir()):
        assert fault(TARGETS[name], path.read_bytes()) is None, path


@pytest.mark.parametrize("name", TARGETS)
def test_what_a_target_begins_with_is_sound(name):
    """Else mutations would begin where nothing is read."""
    read = 0
    for content in seeds(name):
        with suppress(InputError):
            TARGETS[name](content)
            read += 1
    assert read > len(seeds(name)) / 2


def test_the_corpus_is_small():
    assert sum(path.stat().st_size for path in CORPUS.rglob("*") if path.is_file()) < 100_000


@pytest.mark.parametrize(
    ("error", "found"),
    [
        (KeyError("a"), "KeyError"),
        (InputError("a " * 900), "a line of 1,799 characters"),
        (InputError("no memory"), "MemoryError"),
        (InputError("too few"), None),
    ],
)
def test_a_fault_is_what_is_neither_read_nor_refused_in_a_line(error, found):
    def target(_):
        if "memory" in str(error):
            try:
                raise MemoryError
            except MemoryError:
                raise error from None
        raise error

    assert re.match(found, fault(target, b"")) if found else fault(target, b"") is None
