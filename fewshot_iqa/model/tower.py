"""The layers of a tower. What nothing reads is not computed: with equal results, in a part of the time.

Visual prompts that the next layer replaces act in their layer as keys and values alone, and these are the same for all
images of a batch. Where only the first tokens are read after the last layer, it computes only these.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor


def run_layers(
    blocks: Sequence[Any],
    x: Tensor,
    prompts: Sequence[Tensor] = (),
    *,
    first: int = 0,
    read: int | None = None,
) -> Tensor:
    """Tokens `x` (B, L, W) behind `blocks`, those of a tower from layer `first` to its end.

    `prompts`, each (N, W), stand behind the tokens: one enters at each of the tower's first layers, in the place of the
    one before, and the last remains. The result has the tokens of `x`, or the first `read` of them.
    """
    count = x.shape[1]
    for i, block in enumerate(blocks):
        is_last, layer = i == len(blocks) - 1, first + i
        own = prompts[layer] if layer < len(prompts) else None
        if own is not None and layer == len(prompts) - 1 and not is_last:  # the next layers read them
            x, own = torch.cat([x, _expand(own, x)], dim=1), None
        x = run_layer(block, x, own, read=(read or count) if is_last else None)
    return x[:, : read or count]


def run_layers_plainly(blocks: Iterable[Any], x: Tensor, prompts: Sequence[Tensor] = ()) -> Tensor:
    """The same by the blocks of open_clip: what `run_layers` is compared with."""
    count = x.shape[1]
    for i, block in enumerate(blocks):
        if i < len(prompts):
            x = torch.cat([x[:, :count], _expand(prompts[i], x)], dim=1)
        x = block(x)
    return x[:, :count]


def run_layer(
    block: Any, x: Tensor, prompts: Tensor | None = None, *, read: int | None = None, causal: bool = False
) -> Tensor:
    """The first `read` of the tokens `x` (B, L, W) behind a layer, in which they attend to themselves and to `prompts`
    (N, W)."""
    if not _is_known(block):
        whole = x if prompts is None else torch.cat([x, _expand(prompts, x)], dim=1)
        mask = torch.full((x.shape[1],) * 2, float("-inf")).to(x).triu(1) if causal else None
        return block(whole, attn_mask=mask)[:, : read or x.shape[1]]
    normed = block.ln_1(x)
    weight, bias, heads, width = block.attn.in_proj_weight, block.attn.in_proj_bias, block.attn.num_heads, x.shape[-1]
    if read is None or read >= x.shape[1]:
        query, key, value = F.linear(normed, weight, bias).chunk(3, dim=-1)
    else:
        x = x[:, :read]
        query = F.linear(normed[:, :read], weight[:width], bias[:width])
        key, value = F.linear(normed, weight[width:], bias[width:]).chunk(2, dim=-1)
    if prompts is not None:
        own = F.linear(block.ln_1(prompts.to(x.dtype)), weight[width:], bias[width:]).chunk(2, dim=-1)
        key, value = (torch.cat([y, _expand(z, y)], dim=1) for y, z in zip((key, value), own, strict=True))
    query, key, value = (y.unflatten(-1, (heads, -1)).transpose(1, 2) for y in (query, key, value))
    mixed = _attend(query, key, value, causal)
    x = x + block.ls_1(block.attn.out_proj(mixed.transpose(1, 2).flatten(2)))
    return x + block.ls_2(block.mlp(block.ln_2(x)))


def _attend(query: Tensor, key: Tensor, value: Tensor, causal: bool) -> Tensor:
    """Scaled dot-product attention; of bfloat16 on a CPU by plain products, which there are several times as fast."""
    if causal or query.dtype != torch.bfloat16 or query.device.type != "cpu":
        return F.scaled_dot_product_attention(query, key, value, is_causal=causal)
    with torch.autocast("cpu", enabled=False):  # which would compute the softmax in float32
        return (query * query.shape[-1] ** -0.5 @ key.mT).softmax(dim=-1) @ value


def _is_known(block: Any) -> bool:
    """Whether it is open_clip's usual block, and not one of its variants."""
    return (
        type(block) is ResidualAttentionBlock
        and not hasattr(block, "ln_1_kv")
        and block.attn.in_proj_weight is not None
        and block.attn.in_proj_bias is not None
        and block.attn.bias_k is None
    )


def _expand(tokens: Tensor, x: Tensor) -> Tensor:
    return tokens.to(x.dtype).expand(x.shape[0], -1, -1)
