"""What a tower leaves out changes nothing: `run_layers` against the blocks of open_clip, a stem against its network."""

import copy

import open_clip
import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn

from fewshot_iqa.model.clip import create_clip
from fewshot_iqa.model.stem import ARCHITECTURE, AT_ONCE, LEVELS, ConvStem, _fold
from fewshot_iqa.model.tower import run_layer, run_layers, run_layers_plainly

LAYERS, TOKENS, PROMPTS, WIDTH = 4, 10, 3, 32


@pytest.fixture
def blocks():
    torch.manual_seed(0)
    return open_clip.transformer.Transformer(WIDTH, LAYERS, heads=4).double().resblocks


@pytest.fixture
def variant():
    """Blocks that `run_layer` does not know."""
    torch.manual_seed(0)
    kind = open_clip.transformer.CustomResidualAttentionBlock
    return nn.ModuleList(kind(WIDTH, 4, scale_heads=True, scale_attn=True) for _ in range(LAYERS)).double()


def tokens(*shape):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()


@pytest.mark.parametrize("depth", [0, 1, 2, LAYERS])
@pytest.mark.parametrize("read", [None, 1])
@pytest.mark.parametrize("kind", ["blocks", "variant"])
def test_layers_and_their_gradients_are_those_of_open_clip(request, kind, depth, read):
    layers = request.getfixturevalue(kind)
    x, prompts = tokens(2, TOKENS, WIDTH), tokens(depth, PROMPTS, WIDTH)
    found, expected = run_layers(layers, x, prompts, read=read), run_layers_plainly(layers, x, prompts)[:, :read]
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)
    variables = [x, *([prompts] if depth else []), *layers.parameters()]
    weights = tokens(*found.shape).detach()
    for one, two in zip(
        *(torch.autograd.grad((y * weights).sum(), variables, allow_unused=True) for y in (found, expected)),
        strict=True,
    ):
        if two is None:
            assert one is None
        else:
            torch.testing.assert_close(one, two, atol=1e-10, rtol=0)


def test_layers_go_on_from_any_layer(blocks):
    x, prompts = tokens(2, TOKENS, WIDTH), tokens(LAYERS, PROMPTS, WIDTH)
    lower = run_layers(blocks[:2], x, prompts)
    upper = run_layers(blocks[2:], lower, prompts, first=2)
    torch.testing.assert_close(upper, run_layers(blocks, x, prompts), atol=1e-12, rtol=0)


@pytest.mark.parametrize("kind", ["blocks", "variant"])
def test_text_sees_only_what_stands_before(request, kind):
    block = request.getfixturevalue(kind)[0]
    x = tokens(2, TOKENS, WIDTH)
    mask = torch.full((TOKENS, TOKENS), float("-inf"), dtype=torch.float64).triu(1)
    torch.testing.assert_close(run_layer(block, x, causal=True), block(x, attn_mask=mask), atol=1e-12, rtol=0)


def test_an_embedding_needs_no_patches_of_the_last_layer():
    torch.manual_seed(0)
    clip = create_clip("ViT-B-32").eval().requires_grad_(False)
    images = torch.rand(1, 3, 224, 224)
    tokens, stem = clip.embed(images)
    whole, alone = (clip.pool(clip.run_layers(tokens, read=read), stem) for read in (None, 1))
    assert alone.shape == (1, clip.visual.output_dim)
    torch.testing.assert_close(alone, whole[:, : clip.visual.output_dim], atol=1e-6, rtol=0)
    torch.testing.assert_close(alone, nn.functional.normalize(clip.encode_image(images)[0], dim=-1), atol=1e-6, rtol=0)


def test_attention_in_bfloat16_is_that_in_float32_rounded(blocks):
    block, x, prompts = blocks[0].float(), tokens(2, TOKENS, WIDTH).float(), tokens(PROMPTS, WIDTH).float()
    exact = run_layer(block, x, prompts)
    with torch.autocast("cpu", torch.bfloat16):
        rough = run_layer(block, x, prompts)
    assert not torch.equal(rough, exact)
    torch.testing.assert_close(rough, exact, atol=0.03, rtol=0)
    ours, theirs = (torch.autograd.grad(y.square().sum(), block.attn.in_proj_weight)[0] for y in (rough, exact))
    assert torch.cosine_similarity(ours.flatten(), theirs.flatten(), dim=0) > 0.999


@pytest.mark.parametrize("side", [64, 72])  # 72: with an odd side on the way
def test_a_stem_sees_what_its_network_does(side):
    """The network of timm, with batch normalisation and padded images, all images at once."""
    torch.manual_seed(0)
    network = timm.create_model(ARCHITECTURE, features_only=True, out_indices=LEVELS).eval().double()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
    stem = ConvStem(nn.Conv2d(3, 8, 8, 8, bias=False), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)).double()
    stem.network.load_state_dict(_fold(copy.deepcopy(network)).state_dict())
    images = torch.rand(2 * AT_ONCE + 1, 3, side, side, dtype=torch.float64) * 2 - 1

    with torch.no_grad():
        found, whole, (first, *_, last) = stem.features(images), stem.features(images, plain=True), network(images)
    torch.testing.assert_close(found, whole, rtol=0, atol=1e-12)
    size, width = found.shape[-2:], first.shape[1]
    torch.testing.assert_close(found[:, :width], F.adaptive_avg_pool2d(first, size), rtol=0, atol=1e-12)
    torch.testing.assert_close(found[:, -last.shape[1] :], F.interpolate(last, size), rtol=0, atol=1e-12)
