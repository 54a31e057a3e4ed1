"""Decides how text becomes token ids and back."""

from collections.abc import Sequence
from dataclasses import dataclass

from tokenizers import AddedToken, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel

IM_START = "<|im_start|>"
IM_END = "<|im_end|>"
END_OF_TEXT = "<|endoftext|>"


@dataclass(frozen=True)
class TokenizedText:
    """Token ids and, for each, the index behind its last character in the text."""

    ids: tuple[int, ...]
    ends: tuple[int, ...]


class TextTokenizer:
    """Text to ids with the chat markers as single tokens. ValueError if the vocabulary lacks a marker."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.im_start_id = self._marker(IM_START)
        self.im_end_id = self._marker(IM_END)

    @property
    def vocab_size(self) -> int:
        """One above the highest id it can give."""
        return max(self._tokenizer.get_vocab(with_added_tokens=True).values()) + 1

    def encode(self, text: str) -> list[int]:
        return list(self.tokenize(text).ids)

    def tokenize(self, text: str) -> TokenizedText:
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        return TokenizedText(tuple(encoding.ids), tuple(end for _, end in encoding.offsets))

    def decode(self, ids: Sequence[int]) -> str:
        """Text of `ids`; markers are left out, and ids the vocabulary does not know say nothing."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))

    def _marker(self, text: str) -> int:
        token_id = self._tokenizer.token_to_id(text)
        if token_id is None:
            raise ValueError(f"the tokenizer has no token {text!r}: use a ChatML tokenizer such as Qwen2.5's")
        return int(token_id)


def byte_level() -> TextTokenizer:
    """One token per UTF-8 byte and no merges, for models whose weights are untrained: ids 0..258."""
    vocab = {symbol: index for index, symbol in enumerate(sorted(ByteLevel.alphabet()))}
    tokenizer = Tokenizer(BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = ByteLevelDecoder()
    tokenizer.add_special_tokens([AddedToken(text, special=True) for text in (END_OF_TEXT, IM_START, IM_END)])
    return TextTokenizer(tokenizer)
