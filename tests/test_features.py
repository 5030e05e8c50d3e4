"""Features of pictures: computed once, kept in memory and on disk, and never mixed up."""

import json
import multiprocessing
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import fewshot_iqa
from fewshot_iqa import rng
from fewshot_iqa.config import ViewSpec, load_config
from fewshot_iqa.data.loading import Loader
from fewshot_iqa.errors import InputError
from fewshot_iqa.features import OVERHEAD, FeatureCache
from fewshot_iqa.model import checkpoint
from fewshot_iqa.types import Features, Record, Scale
from tests.conftest import photograph, sets

SIZE = 4 * 5 * 6  # bytes of the features of one picture below


def features(value: float) -> Features:
    return Features(4, {"": torch.full((1, 5, 6), float(value))})


def held(cache, count):
    return [i for i in range(count) if cache.get(f"key{i}") is not None]


def assert_same(one, two):
    assert one.dim == two.dim
    assert one.pooled.keys() == two.pooled.keys()
    assert all(torch.equal(one.pooled[name], two.pooled[name]) for name in one.pooled)


def test_memory_is_bounded_and_keeps_what_was_used_last():
    cache = FeatureCache(memory=3 * (SIZE + OVERHEAD))
    for i in range(3):
        cache.put(f"key{i}", features(i))
    assert_same(cache.get("key0"), features(0))
    cache.put("key3", features(3))
    assert held(cache, 4) == [0, 2, 3]


def test_a_key_that_is_written_again_counts_once():
    cache = FeatureCache(memory=3 * (SIZE + OVERHEAD))
    for _ in range(5):
        cache.put("key0", features(0))
    for i in range(3):
        cache.put(f"key{i}", features(i))
    assert held(cache, 3) == [0, 1, 2]


def test_a_folder_is_read_by_whoever_comes_later(tmp_path):
    both = Features(4, {"main": torch.rand(1, 5, 6), "": torch.rand(1, 2, 6)}, tokens={"": torch.rand(1, 5, 3, 2)})
    FeatureCache(tmp_path / "cache").put("key", both)
    found = FeatureCache(tmp_path / "cache").get("key")
    assert_same(found, replace(both, tokens={}))  # tokens are large, and computed anew
    assert FeatureCache(tmp_path / "other").get("key") is None


def test_a_folder_is_bounded_and_loses_what_was_not_used_for_longest(tmp_path):
    FeatureCache(tmp_path).put("key0", features(0))
    (file,) = tmp_path.rglob("*.safetensors")
    size = file.stat().st_size
    for i in range(1, 5):
        FeatureCache(tmp_path).put(f"key{i}", features(i))
    for age, name in enumerate(["key2", "key0", "key4", "key1", "key3"]):  # from the latest to the oldest
        (file,) = tmp_path.rglob(f"{name}.safetensors")
        os.utime(file, (1e9 - 100 * age, 1e9 - 100 * age))
    assert FeatureCache(tmp_path).get("key3") is not None  # now the latest
    FeatureCache(tmp_path, disk=int(4.5 * size)).put("key5", features(5))
    left = {path.stem for path in tmp_path.rglob("*.safetensors")}
    assert left == {"key5", "key3", "key2", "key0"}
    assert sum(path.stat().st_size for path in tmp_path.rglob("*.safetensors")) <= 4.5 * size


def test_a_damaged_file_counts_as_absent_and_is_replaced(tmp_path):
    FeatureCache(tmp_path).put("key", features(1))
    (file,) = tmp_path.rglob("*.safetensors")
    whole = file.read_bytes()
    for content in (b"", whole[:40], whole[:-8], b"x" * len(whole), whole.replace(b'"dim"', b'"mid"')):
        file.write_bytes(content)
        assert FeatureCache(tmp_path).get("key") is None
    cache = FeatureCache(tmp_path)
    cache.put("key", features(2))
    assert_same(FeatureCache(tmp_path).get("key"), features(2))


def test_a_file_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            FeatureCache(tmp_path).put("key", features(1))
    assert list(tmp_path.rglob("*.safetensors")) == []
    assert FeatureCache(tmp_path).get("key") is None


def test_a_folder_that_cannot_be_used_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"--cache .*file: cannot be written"):
        FeatureCache(tmp_path / "file")


def write_and_read(folder, offset):
    """Write 30 keys in an order of its own while another process does the same, and read each back."""
    cache = FeatureCache(folder, memory=0, disk=20 * 1000)
    for i in rng.permutation(30, offset, "order"):
        cache.put(f"key{i}", features(i))
        found = cache.get(f"key{i}")
        assert found is None or torch.equal(found.pooled[""], features(i).pooled[""])


def test_two_processes_may_share_a_folder(tmp_path):
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=write_and_read, args=(tmp_path, i)) for i in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert list(tmp_path.rglob("*.part")) == []
    cache = FeatureCache(tmp_path)
    for path in tmp_path.rglob("*.safetensors"):
        assert_same(cache.get(path.stem), features(int(path.stem.removeprefix("key"))))


@pytest.fixture
def picture(tmp_path):
    photograph(0).save(tmp_path / "one.png")
    return Record(tmp_path / "one.png", 1.0, "one")


def test_keys_of_pictures_differ_by_what_is_encoded(picture, tmp_path):
    views, scale = ViewSpec(crop=32), Scale(0, 1)
    key = Loader(views, scale).key(picture)
    photograph(0).save(tmp_path / "same.png")
    assert Loader(views, Scale(0, 5), seed=3).key(replace(picture, rating=2.0, group="x")) == key
    assert Loader(views, scale).key(replace(picture, path=tmp_path / "same.png")) == key  # its content alone counts
    distorted = replace(picture, apply=(("white_noise", 3.0),))
    keys = [
        key,
        *(Loader(views.model_copy(update=change), scale).key(picture) for change in (
            {"crop": 48}, {"short_side": 40}, {"square": 64}, {"count": 1}, {"stride": 16}
        )),
        Loader(views, scale, source_side=40).key(picture),
        Loader(views, scale).key(distorted),
        Loader(views, scale, seed=1).key(distorted),
        Loader(views, scale).key(replace(picture, apply=(("white_noise", 4.0),))),
    ]  # fmt: skip
    assert len(set(keys)) == len(keys)
    photograph(1).save(picture.path)
    assert Loader(views, scale).key(picture) not in keys


def test_the_fingerprint_of_an_encoder_is_of_all_that_features_depend_on(small):
    settings = load_config("grmp", small)

    same = [checkpoint.build(settings) for _ in range(2)]
    with torch.no_grad():
        same[1].train_only(["text.quality.*", "clip.transformer.*"])  # the text side
        same[1].text["quality"].context += 1
        next(same[1].clip.transformer.parameters()).add_(1)
    assert same[0].fingerprint() == same[1].fingerprint()

    others = [checkpoint.build(settings) for _ in range(3)]
    with torch.no_grad():
        others[0].visual["main"].tokens += 1
        others[1].visual["main"].end_norm.bias += 1
        others[2].train_only(["clip.visual.ln_post.*"])["clip.visual.ln_post.bias"].add_(1)
    others += [checkpoint.build(load_config("grmp", [*small, change])) for change in ("model.normalize=none", "seed=1")]
    found = [model.fingerprint() for model in (same[0], *others)]
    assert len(set(found)) == len(found)


def adapt(fsiqa, labels, out, *more):
    return fsiqa("adapt", "--labels", labels, "--test", "0.5", "--out", out, *more)


@pytest.mark.parametrize("method", ["ridge", "gp", "coop", "linear", "clip_iqa"])
def test_with_a_cache_no_picture_is_decoded_or_encoded_twice(fsiqa, eight, quick, encoded, method, tmp_path):
    """By other shots, a curve, scoring, or without shots at all."""
    cache = ("--cache", tmp_path / "cache")
    short = sets(["adapt.steps=2"]) if method in ("coop", "linear") else []
    first = adapt(fsiqa, eight, tmp_path / "out", "--config", method, "--shots", "100%", *quick, *short, *cache)
    assert first.code == 0, first.error
    assert encoded["views"] == 8
    assert all(encoded[f"decoded photo{i}.png"] for i in range(8))
    encoded.clear()
    task = ("--config", method, *quick, *short, *cache, "--out", tmp_path / "other")
    curve = ("curve", "--labels", eight, "--folds", 2, "--methods", method, "--shots", "2,3", "--seeds", 2)
    for command in (
        ("adapt", "--labels", eight, "--test", "0.5", "--shots", 2, "--seeds", 2, *task),
        ("adapt", "--labels", eight, *task),
        (*curve, "--out", tmp_path / "curve", *quick, *short, *cache),
        ("score", tmp_path / "out", eight.parent, *cache),
    ):
        result = fsiqa(*command)
        assert result.code == 0, result.error
        assert not encoded, command[0]


def test_a_cache_changes_no_result(fsiqa, eight, quick, encoded, tmp_path):
    found = []
    for more in ((), ("--cache", tmp_path / "cache"), ("--cache", tmp_path / "cache")):
        files = ("--json", tmp_path / "out.json", "--csv", tmp_path / "out.csv")
        task = ("--config", "gp", "--shots", 3, *quick, *files, *more)
        assert adapt(fsiqa, eight, tmp_path / "out", *task).code == 0
        found.append(((tmp_path / "out.csv").read_text(), fewshot_iqa.load(tmp_path / "out").score([eight.parent])))
    assert found[0] == found[1] == found[2]


def test_a_changed_picture_is_encoded_again(fsiqa, eight, quick, encoded, tmp_path):
    task = ("--config", "ridge", "--shots", "100%", *quick, "--cache", tmp_path / "cache")
    assert adapt(fsiqa, eight, tmp_path / "out", *task).code == 0
    encoded.clear()
    (tmp_path / "photo3.png").unlink()  # a link to a picture that other tests read
    photograph(99).save(tmp_path / "photo3.png")
    assert fsiqa("score", tmp_path / "out", eight.parent, "--cache", tmp_path / "cache").code == 0
    assert encoded.pop("views") == 1
    assert list(encoded) == ["decoded photo3.png"]


def test_methods_on_the_plain_tower_share_features(fsiqa, eight, quick, encoded, tmp_path):
    task = ("curve", "--labels", eight, "--test", "0.5", "--shots", 3, "--seeds", 1, *quick)

    def median(*methods):
        encoded.clear()
        files = ("--out", tmp_path / "-".join(methods), "--json", tmp_path / "curve.json")
        assert fsiqa(*task, "--methods", ",".join(methods), *files).code == 0
        found = json.loads((tmp_path / "curve.json").read_text())["curve"]
        return {method: found[method]["3"]["median"]["rmse"] for method in methods}

    together = median("ridge", "linear", "coop", "clip_iqa")
    assert encoded["views"] == 3 + 4
    for method, rmse in together.items():
        assert median(method)[method] == pytest.approx(rmse, rel=1e-4)
        assert encoded["views"] == 3 + 4


def test_through_prompts_that_stay_pictures_are_encoded_once(fsiqa, eight, quick, encoded, tmp_path):
    """Over seeds and numbers of shots, where all begin from the same prompts; and with the same result."""
    phrases = sets(["head.prompt_mean_weight=0.5"])
    task, start = ("--labels", eight, "--test", "0.5", *quick), tmp_path / "start"
    grmp = ("--shots", 3, "--config", "grmp", "--from", "none", "--out", start, "--set", "adapt.steps=1")
    assert fsiqa("adapt", *task, *grmp).code == 0
    found = {}
    for begin in (start, "none"):
        encoded.clear()
        files = ("--out", tmp_path / f"curve {begin != start}", "--json", tmp_path / "curve.json")
        curve = (
            "curve",
            *task,
            "--methods",
            "gp_prompts",
            "--shots",
            "2,3",
            "--seeds",
            2,
            "--from",
            begin,
            *files,
            *phrases,
        )
        result = fsiqa(*curve)
        assert result.code == 0, result.error
        found[begin] = json.loads((tmp_path / "curve.json").read_text())["curve"]["gp_prompts"]["3"]["trials"][1]
        assert encoded["views"] <= 8 if begin == start else encoded["views"] > 8  # each seed has prompts of its own
    files = ("--out", tmp_path / "out", "--json", tmp_path / "out.json")
    options = ("--config", "gp_prompts", "--from", start, "--seed", 1)
    assert fsiqa("adapt", *task, "--shots", 3, *options, *files, *phrases).code == 0
    (trial,) = json.loads((tmp_path / "out.json").read_text())["trials"]
    assert trial["rmse"] == pytest.approx(found[start]["rmse"], rel=1e-4)
    assert trial["zero_shot"]["rmse"] == pytest.approx(found[start]["zero_shot"]["rmse"], rel=1e-4)
    assert trial["rmse"] != pytest.approx(found["none"]["rmse"], rel=1e-3)
