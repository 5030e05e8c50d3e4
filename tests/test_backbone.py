"""The walk over open_clip's blocks, and weights from files of every kind."""

import json
import zipfile

import open_clip
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from fewshot_iqa.errors import InputError
from fewshot_iqa.model import weights as weight_files
from fewshot_iqa.model.clip import create_clip, load_clip
from fewshot_iqa.model.weights import read_weights
from tests.conftest import MINIATURE, seeded

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit")  # deprecated, and still what OpenAI's files are


@pytest.fixture
def reference(miniature):
    """open_clip's own model with the miniature's weights."""
    _, _, path = miniature.rpartition(":")
    load_clip(miniature)  # registers the architecture
    return open_clip.create_model("miniature", pretrained=path).eval()


@torch.no_grad()
def test_walk_equals_open_clip(miniature, reference):
    clip = load_clip(miniature)
    images = seeded(2, 3, 32, 32)
    torch.testing.assert_close(clip.encode_image(images)[0], reference.encode_image(images), atol=1e-6, rtol=0)
    phrases = ["a photo of a cat", "sharp", "a photo with high quality."]
    tokens = open_clip.tokenize(phrases, context_length=24)
    torch.testing.assert_close(
        clip.encode_text(clip.tokenize(phrases)), reference.encode_text(tokens), atol=1e-6, rtol=0
    )


@torch.no_grad()
def test_context_replaces_the_placeholders(miniature):
    clip = load_clip(miniature)
    tokens = clip.tokenize(["high quality."], context=3)
    same = clip.token_embedding(tokens)[0, 1:4]
    torch.testing.assert_close(clip.encode_text(tokens, same), clip.encode_text(tokens))
    assert not torch.allclose(clip.encode_text(tokens, same + 1), clip.encode_text(tokens))


@torch.no_grad()
def test_prompts_are_replaced_at_every_layer(miniature):
    clip = load_clip(miniature)
    images, prompts = seeded(2, 3, 32, 32), seeded(12, 2, 16)
    whole, patches = clip.encode_image(images, prompts)
    assert patches.shape == (2, 16, 16)
    shallow = clip.encode_image(images, prompts[:1])[0]
    assert not torch.allclose(whole, shallow)
    last = prompts.clone()
    last[-1] *= -1
    assert not torch.allclose(whole, clip.encode_image(images, last)[0])


@torch.no_grad()
def test_small_images_take_a_window_of_positions(miniature):
    clip = load_clip(miniature)
    images = seeded(1, 3, 16, 16)
    moved = clip.encode_image(images, corner=(2, 1))[0]
    assert not torch.allclose(moved, clip.encode_image(images)[0])
    positions = clip.visual.positional_embedding.clone()
    grid = positions[1:].unflatten(0, (4, 4))
    grid[:2, :2] = grid[2:, 1:3].clone()
    clip.visual.positional_embedding.copy_(positions)
    torch.testing.assert_close(clip.encode_image(images)[0], moved)


def test_a_phrase_that_does_not_fit(miniature):
    with pytest.raises(InputError, match="this CLIP reads 24"):
        load_clip(miniature).tokenize(["word " * 22], context=1)


def test_loading_freezes(miniature):
    clip = load_clip(miniature)
    assert not any(parameter.requires_grad for parameter in clip.parameters())
    assert not clip.training


class Archive(nn.Module):
    """The miniature's weights in a scripted module with OpenAI's marks."""

    def __init__(self, weights: dict[str, torch.Tensor], marks: bool = True) -> None:
        super().__init__()
        if marks:
            self.input_resolution, self.context_length, self.vocab_size = 32, 24, 49408
        for name, value in weights.items():
            module = self
            *parents, leaf = name.split(".")
            for parent in parents:
                if not hasattr(module, parent):
                    module.add_module(parent, Empty())
                module = getattr(module, parent)
            module.register_parameter(leaf, nn.Parameter(value.half()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.input_resolution + self.context_length + self.vocab_size


class Empty(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


@pytest.fixture
def archive(miniature, tmp_path, monkeypatch):
    monkeypatch.setattr(weight_files.Path, "home", lambda: tmp_path / "home")
    path = tmp_path / "archive.pt"
    torch.jit.script(Archive(load_clip(miniature).state_dict())).save(path)
    return path


def test_openai_archive_is_converted_once_without_running_it(archive, miniature, monkeypatch):
    monkeypatch.setattr(torch.jit, "load", None)
    weights, quick_gelu = read_weights(archive)
    assert quick_gelu is True
    for name, value in load_clip(miniature).state_dict().items():
        torch.testing.assert_close(weights[name], value.half().float())
    monkeypatch.setattr(weight_files, "read_zip", None)
    again, quick_gelu = read_weights(archive)
    assert quick_gelu is True
    assert again.keys() == weights.keys()


def test_an_archive_that_asks_for_more_than_weights_is_refused(archive, tmp_path):
    evil = tmp_path / "evil.pt"
    with zipfile.ZipFile(archive) as source, zipfile.ZipFile(evil, "w") as target:
        for name in source.namelist():
            data = source.read(name)
            target.writestr(name, b"\x80\x02cos\nsystem\n." if name.endswith("/data.pkl") else data)
    with pytest.raises(InputError, match=r"os\.system"):
        read_weights(evil)


def test_quick_gelu_is_checked_against_the_origin(archive, miniature, tmp_path):
    plain = miniature.rpartition(":")[0]
    with pytest.raises(InputError, match="with QuickGELU, which miniature lacks"):
        load_clip(f"{plain}:{archive}")
    quick = tmp_path / "quick.json"
    quick.write_text(json.dumps({**MINIATURE, "quick_gelu": True}))
    assert load_clip(f"{quick}:{archive}").image_size == 32


def test_weights_of_unknown_origin_are_pointed_out(miniature, tmp_path):
    weights = miniature.rpartition(":")[2]
    for name, quick_gelu in (("pair-quickgelu", True), ("pair", False)):
        (tmp_path / f"{name}.json").write_text(json.dumps({**MINIATURE, "quick_gelu": quick_gelu}))
    load_clip(f"{tmp_path / 'pair-quickgelu.json'}:{weights}")
    with pytest.warns(UserWarning, match="OpenAI's weights were: for those use pair-quickgelu"):
        load_clip(f"{tmp_path / 'pair.json'}:{weights}")


def test_text_towers_of_another_kind_are_refused():
    with pytest.raises(InputError, match="has a tower of another library"):
        load_clip("ViT-H-14-CLIPA:datacomp1b")


@pytest.mark.parametrize("kind", ["pt", "wrapped", "safetensors", "module"])
def test_state_dicts(miniature, tmp_path, kind):
    architecture = miniature.rpartition(":")[0]
    expected = load_clip(miniature)
    state = expected.state_dict()
    path = tmp_path / ("clip.safetensors" if kind == "safetensors" else "clip.pt")
    if kind == "safetensors":
        save_file(state, path)
    elif kind == "module":
        torch.save({f"module.{name}": value for name, value in state.items()}, path)
    else:
        torch.save({"state_dict": state} if kind == "wrapped" else state, path)
    loaded = load_clip(f"{architecture}:{path}")
    assert loaded.fingerprint == expected.fingerprint


def test_a_pickle_that_is_no_state_dict(tmp_path):
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(InputError, match="no state dict"):
        read_weights(tmp_path / "list.pt")


@torch.no_grad()
def test_features_of_a_picture_do_not_depend_on_the_others(miniature):
    """To the last bit: a run that goes on encodes other pictures together than one that was not interrupted."""
    clip = load_clip(miniature)

    def pooled(images):
        tokens, stem = clip.embed(images)
        return clip.pool(clip.run_layers(tokens), stem)

    images = seeded(8, 3, 32, 32)
    for count in range(1, 8):
        assert torch.equal(pooled(images[:count]), pooled(images)[:count]), count


def test_only_vit_towers(tmp_path):
    resnet = tmp_path / "resnet.json"
    tower = {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None}
    resnet.write_text(json.dumps({**MINIATURE, "vision_cfg": tower}))
    with pytest.raises(InputError, match="ViT image tower"):
        create_clip(str(resnet))


def test_what_cannot_be_downloaded_says_so(monkeypatch):
    def offline(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(open_clip, "create_model", offline)
    with pytest.raises(InputError, match=r"could not be downloaded.*--clip ViT-B-16-quickgelu:/path/to/weights"):
        load_clip("ViT-B-16-quickgelu:openai")
