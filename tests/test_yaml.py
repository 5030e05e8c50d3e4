"""YAML from anywhere: each file and each value of --set ends in a specification or in one line, soon."""

import os
import re
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fewshot_iqa.config import Config, load_config, load_task, read_config
from fewshot_iqa.config.reading import DEEPEST, LARGEST, MOST, parse_yaml, read_yaml, to_yaml
from fewshot_iqa.config.spec import Spec
from fewshot_iqa.errors import InputError

SIGNS = "{}[]:,-&*!<|'\"#%?~=.019eE_x \nab\u00e9\u2028\x1b\t"
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12)
PLAIN = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4)
)
ODD = ["[]", "{}", "null", "-1", "0", "1e308", "-.inf", ".nan", "1e-320", "[[1]]", "{kind: [1]}", "2024-13-01", "'a"]
TEXTS = st.text(alphabet=SIGNS, max_size=40) | st.sampled_from(ODD) | PLAIN.map(to_yaml)


def ends(read, *given):
    """What is read, or None where it is refused in one line."""
    try:
        return read(*given)
    except InputError as error:
        message = str(error)
    assert len(message.splitlines()) == 1
    return None


@cache
def keys(name, load):
    """The dotted keys of a specification, those of lists among them."""

    def below(value, prefix):
        entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for key, inner in entries:
            yield f"{prefix}{key}"
            yield from below(inner, f"{prefix}{key}.")

    return list(below(load(name).model_dump(mode="json"), ""))


@given(st.binary(max_size=60) | TEXTS.map(str.encode) | TEXTS.map(lambda text: text.encode("utf-16")))
def test_any_file_is_read_or_refused(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(content)
    ends(read_yaml, path)
    assert isinstance(ends(load_config, str(path)), Config | None)
    assert isinstance(ends(load_task, str(path)), Spec | None)


@given(PLAIN)
def test_what_is_written_reads_back_to_the_same(value):
    assert repr(parse_yaml(to_yaml(value), "here")) == repr(value)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_value_of_any_key_is_taken_or_refused(data):
    name, load = data.draw(
        st.sampled_from(
            [(name, load_config) for name in ("grmp", "gp_prompts", "mp_iqe", "ridge")]
            + [(name, load_task) for name in ("csv", "synthetic", "agiqa3k")]
        )
    )
    key = data.draw(st.sampled_from(keys(name, load)) | st.text(alphabet="ab.0 ", max_size=8))
    assert isinstance(ends(load, name, [f"{key}={data.draw(TEXTS)}"]), Spec | None)


@given(st.dictionaries(st.sampled_from([*Config.model_fields, "base", "kind"]) | SCALARS, PLAIN, max_size=4))
def test_any_keys_and_values_are_taken_or_refused(given):
    ends(read_config, given, (), "here")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: &a [1]\nb: *a", "line 2: not valid YAML (aliases such as *a are not read"),
        ("a: &a {b: 1}\nc:\n  <<: {d: 1}", "line 3: not valid YAML (merge keys (<<) are not read"),
        ("a: 1\nb: 2\na: 3", "line 3: not valid YAML (the key a is there twice)"),
        ("a: {b: 1, b: 1}", "here: not valid YAML (the key b is there twice)"),
        ("a: {1: 1, 0x1: 1}", "(the key 1 is there twice)"),
        ("a: !!python/name:os.system 1", "(tags such as !!str are not read)"),
        ("a: !mine 1", "(tags such as !!str are not read)"),
        ("a: " + "[" * 5000, f"(nested in more than {DEEPEST} levels)"),
        ("a: [" + "1," * (MOST + 1), f"(more than {MOST} values)"),
        ("a: " + "9" * 5000, "(a number of 5000 characters)"),
        ("a: " + "1:" * 5000 + "1", "(a number of 10001 characters)"),
        ("a: 2024-13-01", "(month must be in 1..12)"),
        ("? [1]\n: 2", "(found unhashable key)"),
        ("a: \x00", "(special characters are not allowed)"),
        ("a: [", "(expected the node content"),
    ],
)
def test_what_yaml_may_not_hold(text, reason):
    with pytest.raises(InputError, match=re.escape(reason)):
        parse_yaml(text, "here")


def test_only_regular_files_of_moderate_size_and_utf_8_are_read(tmp_path):
    path = tmp_path / "some.yaml"
    path.write_bytes("description: ü".encode("latin-1"))
    with pytest.raises(InputError, match=r"some.yaml: not valid YAML \(the text is not UTF-8\)"):
        read_yaml(path)
    path.write_bytes(b"#" * (LARGEST + 1))
    with pytest.raises(InputError, match="more than 1 MB"):
        read_yaml(path)
    path.write_bytes(b"\xef\xbb\xbfa: 1")
    assert read_yaml(path) == {"a": 1}
    for wrong in (tmp_path, tmp_path / "absent.yaml"):
        with pytest.raises(InputError, match=r"not a regular file|cannot be read \(No such file"):
            read_yaml(wrong)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.yaml")
    with pytest.raises(InputError, match="not a regular file"):
        read_yaml(tmp_path / "pipe.yaml")


def test_bases_end(tmp_path):
    for i in range(DEEPEST + 5):
        (tmp_path / f"{i}.yaml").write_text(f"base: {i + 1}.yaml\n")
    with pytest.raises(InputError, match="files are based on each other"):
        load_config(str(tmp_path / "0.yaml"))
    (tmp_path / "long.yaml").write_text(f"base: {'x' * 5000}\n")
    with pytest.raises(InputError, match=r"long.yaml: base: cannot be read|no config is named"):
        load_config(str(tmp_path / "long.yaml"))


def test_an_entry_of_a_list_is_named_by_its_number():
    assert [term.weight for term in load_config("mp_iqe", ["loss.2.weight=0.1"]).loss] == [1, 1, 0.1]
    for key in ("loss.3.weight", "loss.weight", "loss.-1.weight", "loss.²", "model.branches.scene.phrases.0.x"):
        with pytest.raises(InputError, match=f"--set {key}=1: no entry '"):
            load_config("mp_iqe", [f"{key}=1"])


@pytest.mark.parametrize(
    ("name", "wrong", "message"),
    [
        ("grmp", "model.visual.main.length=300000", "model.visual.main.length = 300000: expected at most 1000"),
        (
            "grmp",
            "model.branches.scene.context=1e7",
            "model.branches.scene.context = 10000000.0: expected at most 1000",
        ),
        ("grmp", "model.branches.scene.depth=1000", "model.branches.scene.depth = 1000: expected at most 200"),
        ("grmp", "views={square: 100000}", "views.square = 100000: expected at most 10000"),
        ("grmp", f"model.branches.scene.phrases.0={'x' * 1001}", "expected at most 1000 characters"),
        ("grmp", f"model.branches.scene.phrases=[{'a,' * 1001}]", "expected a list of at most 1000"),
        ("mp_iqe", "head.layers=1000", "head.layers = 1000: expected at most 100"),
        ("mp_iqe", "model.branches.distortion.windows=1e6", "windows = 1000000.0: expected at most 200"),
        ("grmp", "adapt.batch=1e9", "adapt.batch = 1000000000.0: expected at most 10000"),
        ("grmp", "adapt.folds=1e9", "adapt.folds = 1000000000.0: expected at most 1000"),
        ("grmp", "adapt.lr=.inf", "adapt.lr = inf: expected a finite number"),
        ("grmp", "adapt.choose=[{lr: .nan}]", "adapt.choose: lr = nan: expected a finite number"),
        ("grmp", "loss.0.weight=.inf", "loss.0.weight = inf: expected a finite number"),
        ("ridge", "head.penalties=[.inf]", "head.penalties.0 = inf: expected a finite number"),
        ("gp", "head.noise=[1, 1e300]", "head.noise.1 = 1e+300: expected at most 1e+12"),
        ("gp_prompts", "head.prompt_mean_weight=.nan", "head.prompt_mean_weight.0 = nan: expected a finite number"),
    ],
)
def test_settings_are_finite_and_bounded(name, wrong, message):
    with pytest.raises(InputError, match=re.escape(message)):
        load_config(name, [wrong])


@pytest.mark.parametrize(
    ("name", "wrong", "message"),
    [
        ("csv", "range=[-.inf, .inf]", "range.0 = -inf: expected a finite number"),
        ("csv", "range=[-1e308, 1e308]", "ratings beyond 1e+30 are not read"),
        ("csv", "group=(a{99999999999})", "not a pattern"),
        ("synthetic", "label_noise=.inf", "label_noise = inf: expected a finite number"),
        ("synthetic", "criteria=1e9", "criteria = 1000000000.0: expected at most 1000"),
        ("synthetic", "contents=1e9", "contents = 1000000000.0: expected at most 1000"),
        ("synthetic", "episodes.support=1e9", "episodes.support = 1000000000.0: expected at most 10000"),
    ],
)
def test_settings_of_tasks_are_finite_and_bounded(name, wrong, message):
    with pytest.raises(InputError, match=re.escape(f"--set task.{wrong}")) as refused:
        load_task(name, [wrong])
    assert message in str(refused.value)
