"""Decides what learns in each stage of training, from which loss, and what of it is kept.

align      the projector, towards the words for what cells show (`alignment`)
tune       projector and additions of low rank, by answering with all tokens of every frame in sight
compress   the same, with LP-Comp between the layers: supervised compression tuning (spec §11) at low rank

Each stage goes on from the one before. Vision and the weights that the base model came with never change.
"""

import random
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from enum import Enum

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from standwatch.compression.lpcomp import Decoder
from standwatch.compression.schedule import Schedule
from standwatch.compression.tokenizer import TextTokenizer
from standwatch.compression.training import Recipe, answered, mean_loss
from standwatch.compression.tuning.adapters import adapt, additions, restore
from standwatch.compression.tuning.alignment import alignment_loss, lexicon_of, set_distance, targets
from standwatch.compression.tuning.examples import Example
from standwatch.compression.tuning.lessons import lesson
from standwatch.compression.xcomp import XComp

_PROJECTOR_PACE = 0.1
PROJECTOR = "projector."
DECODER = "decoder."


class Stage(str, Enum):
    """In the order they are gone through."""

    ALIGN = "align"
    TUNE = "tune"
    COMPRESS = "compress"


def whole_schedule(layers: int, tokens_per_frame: int) -> Schedule:
    """Every layer sees every token."""
    return Schedule((tuple(range(1, tokens_per_frame + 1)),) * (layers + 1))


class Learner:
    """A base model with what it learns. One call is one step of one stage."""

    def __init__(self, model: XComp, tokenizer: TextTokenizer, stage: Stage, recipe: Recipe, rank: int) -> None:
        self._model, self._tokenizer, self._stage, self._recipe = model, tokenizer, stage, recipe
        model.requires_grad_(False)
        adapt(model.decoder, rank, seed=0)
        model.projector.float().requires_grad_(True)  # its steps too are smaller than bfloat16 can tell
        self.lexicon = lexicon_of(model.decoder.embed_tokens.weight, tokenizer.encode)
        seeing = list(model.projector.parameters())
        reading = [weight for weight in self.learning if not any(weight is one for one in seeing)]
        # Once aligned the projector takes smaller steps: otherwise it has left the words before they are understood.
        pace = 1.0 if stage is Stage.ALIGN else _PROJECTOR_PACE
        self._optimizer = torch.optim.AdamW(
            [{"params": seeing, "pace": pace}, {"params": reading, "pace": 1.0}],
            lr=recipe.learning_rate,
            betas=recipe.betas,
            eps=recipe.eps,
            weight_decay=recipe.weight_decay,
        )

    @property
    def decoder(self) -> Decoder:
        return self._model.decoder

    @property
    def on_cpu(self) -> bool:
        return self._model.decoder.embed_tokens.weight.device.type == "cpu"

    @property
    def learning(self) -> list[nn.Parameter]:
        """The weights that this stage changes."""
        part = self._model.projector if self._stage is Stage.ALIGN else self._model
        return [weight for weight in part.parameters() if weight.requires_grad]

    @property
    def schedule(self) -> Schedule:
        """Which tokens of a frame the decoder's layers see."""
        if self._stage is Stage.COMPRESS:
            return self._model.lpcomp_schedule
        return whole_schedule(self._model.config.language.layers, self._model.config.tokens_per_frame)

    def tokens(self, example: Example) -> Tensor:
        """A video's tokens [F, n, D], as the projector makes them today."""
        return self._projected(example.features)

    def gradients(self, examples: Sequence[Example], questions: int, chance: random.Random) -> float:
        """Set the gradients to those of these examples, up to `questions` about each; returns the loss."""
        self._optimizer.zero_grad(set_to_none=True)
        # Few rows at a time: the gradient of PyTorch's fused attention takes longer than that of plain products.
        with sdpa_kernel(SDPBackend.MATH) if self.on_cpu else nullcontext():
            loss = self._loss(examples, questions, chance)
            torch.autograd.backward(loss)
        return float(loss.detach())

    def step(self, number: int, steps: int) -> None:
        """Change the weights by their gradients, as step `number` of so many."""
        for group in self._optimizer.param_groups:
            group["lr"] = self._recipe.rate_at(number, steps) * group["pace"]
        nn.utils.clip_grad_norm_(self.learning, self._recipe.clip_norm)
        self._optimizer.step()

    @torch.no_grad()
    def examine(self, examples: Sequence[Example]) -> dict[str, list[bool]]:
        """Of every question whether its whole answer would be written, word for word, by topic."""
        found: dict[str, list[bool]] = {}
        for example in examples:
            sample = lesson(self._tokenizer, example, self.tokens(example), example.asked)
            right = answered(self._model.decoder, self.schedule, sample)
            for asked, one in zip(example.asked, right, strict=True):
                found.setdefault(asked.topic, []).append(one)
        return found

    def finish(self, examples: Sequence[Example]) -> None:
        """What a stage does once, when all its steps are done."""
        if self._stage is Stage.ALIGN:
            features = torch.cat([example.features for example in examples]).float()
            set_distance(self._model.projector, features, self.lexicon)

    def learnt(self) -> dict[str, Tensor]:
        """All that training has changed, of any stage, float32."""
        projector = {PROJECTOR + name: one.detach() for name, one in self._model.projector.state_dict().items()}
        return projector | {DECODER + name: one for name, one in additions(self._model.decoder).items()}

    def take(self, learnt: Mapping[str, Tensor]) -> None:
        """Go on from what was learnt before. Raises ValueError if it is another model's."""
        own = {name.removeprefix(DECODER): one for name, one in learnt.items() if name.startswith(DECODER)}
        restore(self._model.decoder, own)
        self._model.projector.load_state_dict(
            {name.removeprefix(PROJECTOR): one for name, one in learnt.items() if name.startswith(PROJECTOR)}
        )

    def progress(self) -> dict[str, object]:
        """What a step needs of those before it besides the weights."""
        return self._optimizer.state_dict()

    def resume(self, progress: dict[str, object]) -> None:
        self._optimizer.load_state_dict(progress)

    def _loss(self, examples: Sequence[Example], questions: int, chance: random.Random) -> Tensor:
        if self._stage is Stage.ALIGN:
            return self._alignment_loss(examples, chance)
        samples = [
            lesson(self._tokenizer, one, self.tokens(one), chance.sample(one.asked, min(questions, len(one.asked))))
            for one in examples
        ]
        return mean_loss(self._model.decoder, self.schedule, samples)

    def _alignment_loss(self, examples: Sequence[Example], chance: random.Random) -> Tensor:
        """Of one frame of each example: its others look much like it."""
        places = [chance.randrange(len(one.objects)) for one in examples]
        features = torch.stack([one.features[place] for one, place in zip(examples, places, strict=True)])
        cells = self._model.config.tokens_per_frame
        wanted = [targets(one.objects[place], cells) for one, place in zip(examples, places, strict=True)]
        return alignment_loss(self._projected(features), wanted, self.lexicon)

    def _projected(self, features: Tensor) -> Tensor:
        tokens: Tensor = self._model.projector(features.to(self._model.decoder.embed_tokens.weight.device).float())
        return tokens
