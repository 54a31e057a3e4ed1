"""Decides what learns in each stage of training, from which loss, and what of it is kept.

align      the projector, towards the words for what cells show (`alignment`)
see        the vision tower and the projector's first layer, the same way, from pictures (`eyesight`)
observe    the same two, by answering as in `compress` beside that; who reads it stays as it is
tune       projector and additions of low rank, by answering with all tokens of every frame in sight
compress   the same, with LP-Comp between the layers: supervised compression tuning (spec §11) at low rank
readout    the readout, towards the words for what frames show (`remembering`)
recall     the readout, by answering from memory's one token per frame alone; who reads it stays as it is
remember   all three, by answering as in `compress` and, each time, as in `recall`

Where answers are learnt, so is where to look for them (`looking`), and to tell when that was, and which was first
(`timing`). Each stage goes on from the one before. The weights that the base models came with never change, and where
the projector is frozen, it does not either: answering pulls its tokens away from the words that alignment brought them
to. Where vision learns its second layer stays, and with it the words in which tokens are written: who reads them
understands what is seen better without learning anything. Even so a token can tell its cell better and be read worse.
`known` is a model with the tokens that who reads was taught with: where these tell their cells right, what learns to
see stays near them. Without it fires, rare in lessons, were no longer read.
"""

import random
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from enum import Enum

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from standwatch.compression.cells import CellProjector
from standwatch.compression.checkpoint_layout import LANGUAGE, PROJECTOR, READOUT, TOWER, part_of
from standwatch.compression.frame_selection import relevant_layers
from standwatch.compression.lpcomp import Decoder
from standwatch.compression.prompt import prefix_ids
from standwatch.compression.readout import Readout
from standwatch.compression.schedule import Schedule
from standwatch.compression.tokenizer import TextTokenizer
from standwatch.compression.training import Recipe, answered, mean_loss
from standwatch.compression.tuning.adapters import adapt, additions, restore
from standwatch.compression.tuning.alignment import alignment_loss, departure, lexicon_of, set_distance, targets, told
from standwatch.compression.tuning.examples import Example, are_pictures
from standwatch.compression.tuning.eyesight import adapt_vision, look_at
from standwatch.compression.tuning.lessons import lesson
from standwatch.compression.tuning.looking import Onlooker
from standwatch.compression.tuning.remembering import frame_targets, left_of
from standwatch.compression.tuning.timing import Timekeeper, later_of
from standwatch.compression.xcomp import XComp, load_strictly

_ALIGNED_PACE = 0.1
_LOOKING = 0.06  # weight of looking at the right frames, beside answering; at 0.5 most of the gradient was its
_TIMING = 0.3  # weight of telling when that was, beside both
_KNOWN = 2.0  # weight of staying near known tokens, beside alignment
_OBSERVING = 10.0  # weight of answering, beside both


class Stage(str, Enum):
    """In the order they are gone through."""

    ALIGN = "align"
    SEE = "see"
    OBSERVE = "observe"
    TUNE = "tune"
    COMPRESS = "compress"
    READOUT = "readout"
    RECALL = "recall"
    REMEMBER = "remember"


_OF_READOUT = (Stage.READOUT, Stage.RECALL)  # nothing else learns in these
_OF_VISION = (Stage.SEE, Stage.OBSERVE)  # from pictures
_OF_CELLS = (Stage.ALIGN, Stage.SEE)  # nobody reads in these
_OF_WHAT_IS_READ = (Stage.ALIGN, *_OF_VISION, *_OF_READOUT)  # who reads does not learn in these


def whole_schedule(layers: int, tokens_per_frame: int) -> Schedule:
    """Every layer sees every token."""
    return Schedule((tuple(range(1, tokens_per_frame + 1)),) * (layers + 1))


class Learner:
    """A base model with what it learns. One call is one step of one stage.

    Raises ValueError for a stage that learns nothing where the projector is frozen, or with this vision tower, and for
    `known` in a stage that does not see.
    """

    def __init__(
        self,
        model: XComp,
        tokenizer: TextTokenizer,
        stage: Stage,
        recipe: Recipe,
        rank: int,
        freeze_projector: bool = False,
        known: XComp | None = None,
    ) -> None:
        if known is not None and stage not in _OF_VISION:
            raise ValueError(f"known: vision does not learn in {stage.value}; leave it out")
        if freeze_projector and stage in (Stage.ALIGN, *_OF_VISION):
            raise ValueError(f"freeze_projector: in {stage.value} it learns; leave it out")
        self._model, self._tokenizer, self._stage, self._recipe = model, tokenizer, stage, recipe
        self._known = known
        model.requires_grad_(False)
        adapt(model.decoder, model.decoder.stack, rank, seed=0)
        # Gradients of what does not learn take time.
        self._projects = stage not in _OF_READOUT and not freeze_projector
        model.projector.float().requires_grad_(self._projects)  # its steps too are smaller than bfloat16 can tell
        if stage in _OF_VISION:
            for layer in model.decoder.stack:
                layer.requires_grad_(False)
            model.projector.mlp[-1].requires_grad_(False)
            adapt_vision(model, rank)
        if stage in _OF_READOUT:
            model.requires_grad_(False)
        self._drawn = self._readout_drawn = True  # projector and readout: nobody has trained them yet
        self._readout: Readout | None = None  # only in the stages that use it
        self._passed_on: dict[str, Tensor] = {}  # what was learnt before and this stage has no use for
        if stage in (*_OF_READOUT, Stage.REMEMBER):
            self._readout = self._drawn_readout()
        self.lexicon = lexicon_of(model.decoder.embed_tokens.weight, tokenizer.encode)
        self.later = later_of(model.decoder.embed_tokens.weight, tokenizer.encode)
        # Once aligned they take smaller steps: otherwise they have left the words before they are understood.
        pace = 1.0 if stage in _OF_WHAT_IS_READ else _ALIGNED_PACE
        self._optimizer = torch.optim.AdamW(
            [{"params": self._translating(), "pace": pace}, {"params": self._reading(), "pace": 1.0}],
            lr=recipe.learning_rate,
            betas=recipe.betas,
            eps=recipe.eps,
            weight_decay=recipe.weight_decay,
        )

    @property
    def decoder(self) -> Decoder:
        return self._model.decoder

    @property
    def device(self) -> torch.device:
        return self.decoder.embed_tokens.weight.device

    def compile(self, backend: str = "inductor") -> None:
        """Fuse what each layer does to its rows. The first step takes longer then, and "inductor" needs a C++ compiler.

        `backend` is torch.compile's.
        """
        for layer in self.decoder.stack:
            for half in ("project", "finish"):
                setattr(layer, half, torch.compile(getattr(layer, half), dynamic=True, backend=backend))

    @property
    def learning(self) -> list[nn.Parameter]:
        """The weights that this stage changes."""
        return [*self._translating(), *self._reading()]

    @property
    def schedule(self) -> Schedule:
        """Which tokens of a frame the decoder's layers see when it answers."""
        config = self._model.config
        if self._stage in (Stage.OBSERVE, Stage.COMPRESS):
            return self._model.lpcomp_schedule
        return whole_schedule(config.language.layers, config.tokens_per_frame if self._readout is None else 1)

    def tokens(self, example: Example) -> Tensor:
        """A video's tokens [F, n, D], as the projector makes them today, or [F, 1, D], as memory holds them."""
        frames = self._projected(example.features)
        return self._remembered([frames])[0] if self._readout else frames

    def gradients(self, examples: Sequence[Example], questions: int, chance: random.Random) -> float:
        """Set the gradients to those of these examples, up to `questions` about each; returns the loss."""
        self._optimizer.zero_grad(set_to_none=True)
        # On a GPU the newest kernels are built anew for each shape, and here hardly two steps have the same.
        with sdpa_kernel([SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]):
            loss = self._loss(examples, questions, chance)
            torch.autograd.backward(loss)
        return float(loss.detach())

    def step(self, number: int, steps: int) -> None:
        """Change the weights by their gradients, as step `number` of so many.

        Raises FloatingPointError, and changes nothing, where gradients are infinite or NaN: no step mends such weights.
        """
        norm = nn.utils.clip_grad_norm_(self.learning, self._recipe.clip_norm)
        if not norm.isfinite():
            raise FloatingPointError(
                f"step {number}: a gradient is infinite or NaN; go on from the last checkpoint with a lower rate"
            )
        for group in self._optimizer.param_groups:
            group["lr"] = self._recipe.rate_at(number, steps) * group["pace"]
        self._optimizer.step()

    @torch.no_grad()
    def examine(self, examples: Sequence[Example]) -> dict[str, list[bool]]:
        """Of every question whether its whole answer would be written, word for word, by topic.

        Where nobody reads, whether cells are told instead (`alignment.told`).
        """
        found: dict[str, list[bool]] = {}
        for example in examples:
            for topic, marks in self._marks(example).items():
                found.setdefault(topic, []).extend(marks)
        return found

    @torch.no_grad()
    def begin(self, examples: Sequence[Example]) -> None:
        """What a stage does once, before its first step. Raises ValueError for examples that it cannot learn from."""
        for example in examples:
            self._check(example.features)
        projector = self._model.projector
        if self._stage is Stage.ALIGN and self._drawn and isinstance(projector, CellProjector):
            projector.standard.measure(torch.cat([example.features for example in examples]).to(self.device))
        if self._stage is Stage.READOUT and self._readout and self._readout_drawn:
            self._readout.standard.measure(torch.cat(self._left(self._videos(examples))))

    @torch.no_grad()
    def finish(self, examples: Sequence[Example]) -> None:
        """What a stage does once, when all its steps are done."""
        if self._stage is Stage.ALIGN:
            features = torch.cat([example.features for example in examples]).float()
            set_distance(self._model.projector, features.to(self.device), self.lexicon)
        if self._stage is Stage.READOUT and self._readout:
            left = self._left(self._videos(examples))
            set_distance(self._readout, torch.cat(left), self.lexicon)

    def learnt(self) -> dict[str, Tensor]:
        """All that training has changed, of any stage, float32, under its names in a checkpoint."""
        modules = {PROJECTOR: self._model.projector} | ({READOUT: self._readout} if self._readout else {})
        own = {
            part + name: one.detach() for part, module in modules.items() for name, one in module.state_dict().items()
        }
        added = {LANGUAGE + name: one for name, one in additions(self.decoder).items()}  # vision's among them
        return own | added | self._passed_on

    def take(self, learnt: Mapping[str, Tensor]) -> None:
        """Go on from what was learnt before. Raises ValueError if it is another model's.

        A projector for other features than this model's is left out where a new one is to be aligned, and a readout of
        another kind where a new one is to be learnt.
        """
        own, readout = part_of(learnt, PROJECTOR), part_of(learnt, READOUT)
        unused = (*(() if self._stage in _OF_VISION else (TOWER,)), *(() if self._readout else (READOUT,)))
        self._passed_on = {name: one for name, one in learnt.items() if name.startswith(unused)}
        used = {name: one for name, one in learnt.items() if name not in self._passed_on}
        drawn = {TOWER + name: one for name, one in additions(self._model.vision).items()}  # if it has not learnt yet
        added = drawn | {name: one for name, one in used.items() if name.endswith((".down", ".up"))}
        restore(self.decoder, {name.removeprefix(LANGUAGE): one for name, one in added.items()})
        if self._stage is not Stage.ALIGN or _alike(self._model.projector, own):
            load_strictly(self._model.projector, own)
            self._drawn = False
        if self._readout and readout and (self._stage is not Stage.READOUT or _alike(self._readout, readout)):
            load_strictly(self._readout, readout)
            self._readout_drawn = False

    def progress(self) -> dict[str, object]:
        """What a step needs of those before it besides the weights."""
        return self._optimizer.state_dict()

    def resume(self, progress: dict[str, object]) -> None:
        self._optimizer.load_state_dict(progress)

    def _drawn_readout(self) -> Readout:
        """Equal in all workers."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return Readout(self._model.config.language.width).to(self.device)

    def _translating(self) -> list[nn.Parameter]:
        """The weights of this stage that make tokens for the language model to read."""
        modules: list[nn.Module] = [self._model.projector] if self._projects else []
        modules += [self._model.vision] if self._stage in _OF_VISION else []
        modules += [self._readout] if self._readout else []
        return [weight for module in modules for weight in module.parameters() if weight.requires_grad]

    def _reading(self) -> list[nn.Parameter]:
        """The weights of this stage that read."""
        if self._stage in _OF_WHAT_IS_READ:
            return []
        return [one for layer in self.decoder.stack for one in layer.parameters() if one.requires_grad]

    def _loss(self, examples: Sequence[Example], questions: int, chance: random.Random) -> Tensor:
        if self._stage in _OF_CELLS:
            places = _places(examples, chance)
            return self._loss_of_cells(examples, places, self._projected(_frames(examples, places)))
        if self._stage is Stage.READOUT:
            return self._readout_loss(examples)
        asked = [chance.sample(one.asked, min(questions, len(one.asked))) for one in examples]

        def loss(schedule: Schedule, videos: Sequence[Tensor]) -> Tensor:
            given = zip(examples, videos, asked, strict=True)
            samples = [lesson(self._tokenizer, one, video, some) for one, video, some in given]
            onlooker = Onlooker(samples, schedule, relevant_layers(schedule.layers))
            timekeeper = Timekeeper(samples, schedule, self.later)
            answering = mean_loss(self.decoder, schedule, samples, hear=(onlooker.hear, timekeeper.hear))
            return answering + _LOOKING * onlooker.cost().to(answering.device) + _TIMING * timekeeper.cost()

        frames = self._videos(examples)
        if self._stage is Stage.OBSERVE:
            places = _places(examples, chance)
            tokens = torch.stack([video[place] for video, place in zip(frames, places, strict=True)])
            return self._loss_of_cells(examples, places, tokens) + _OBSERVING * loss(self.schedule, frames)
        if self._stage is Stage.REMEMBER:
            return loss(self._model.lpcomp_schedule, frames) + loss(self.schedule, self._remembered(frames))
        return loss(self.schedule, self._remembered(frames) if self._readout else frames)

    def _marks(self, example: Example) -> dict[str, list[bool]]:
        if self._stage in _OF_CELLS:
            wanted = [targets(objects, self._model.config.tokens_per_frame) for objects in example.objects]
            return told(self.tokens(example), wanted, self.lexicon)
        right = answered(
            self.decoder, self.schedule, lesson(self._tokenizer, example, self.tokens(example), example.asked)
        )
        found: dict[str, list[bool]] = {}
        for asked, one in zip(example.asked, right, strict=True):
            found.setdefault(asked.topic, []).append(one)
        return found

    def _loss_of_cells(self, examples: Sequence[Example], places: Sequence[int], tokens: Tensor) -> Tensor:
        """Of the frames at these places, whose tokens are [B, n, D]."""
        shown = [one.objects[place] for one, place in zip(examples, places, strict=True)]
        wanted = [targets(objects, self._model.config.tokens_per_frame) for objects in shown]
        loss = alignment_loss(tokens, wanted, self.lexicon)
        if self._known is None:
            return loss
        with torch.no_grad():
            known: Tensor = self._known.projector(look_at(self._known, _frames(examples, places)).float())
        return loss + _KNOWN * departure(tokens, known, wanted, self.lexicon)

    def _readout_loss(self, examples: Sequence[Example]) -> Tensor:
        wanted = [frame_targets(objects) for one in examples for objects in one.objects]
        frames = self._videos(examples)
        return alignment_loss(torch.cat(self._remembered(frames)), wanted, self.lexicon)

    def _videos(self, examples: Sequence[Example]) -> list[Tensor]:
        """The tokens [F, n, D] of each, as the projector makes them today."""
        together = self._projected(torch.cat([one.features for one in examples]))
        return list(torch.split(together, [len(one.features) for one in examples]))

    def _check(self, features: Tensor) -> None:
        if are_pictures(features) != (self._stage in _OF_VISION):
            with_or_without = "with" if self._stage in _OF_VISION else "without"
            raise ValueError(
                "lessons: `see` and `observe` learn from pictures, and no other stage does; "
                f"film some {with_or_without} --pictures"
            )

    def _projected(self, features: Tensor) -> Tensor:
        """Tokens of features [F, n, W], or where vision learns of pictures [F, S, S, 3]."""
        self._check(features)
        seen = look_at(self._model, features) if self._stage in _OF_VISION else features.to(self.device)
        tokens: Tensor = self._model.projector(seen.float())
        return tokens

    def _left(self, videos: Sequence[Tensor]) -> list[Tensor]:
        """What LP-Comp leaves of each video [F, n, D]."""
        prefix = self.decoder.embed(prefix_ids(self._tokenizer))
        with nullcontext() if self._stage is Stage.REMEMBER else torch.no_grad():
            return left_of(self._model, prefix, videos)

    def _remembered(self, videos: Sequence[Tensor]) -> list[Tensor]:
        """What memory of one token per frame holds of each video [F, n, D], as [F, 1, D]."""
        assert self._readout is not None, "only the stages that have one ask"
        return [self._readout(left) for left in self._left(videos)]


def _places(examples: Sequence[Example], chance: random.Random) -> list[int]:
    """A frame of each: its others look much like it."""
    return [chance.randrange(len(one.objects)) for one in examples]


def _frames(examples: Sequence[Example], places: Sequence[int]) -> Tensor:
    """Features, or pictures, of one frame of each, [B, ...]."""
    return torch.stack([one.features[place] for one, place in zip(examples, places, strict=True)])


def _alike(module: nn.Module, learnt: Mapping[str, Tensor]) -> bool:
    """Whether weights are of a module of this shape."""
    return {name: one.shape for name, one in module.state_dict().items()} == {
        name: one.shape for name, one in learnt.items()
    }
