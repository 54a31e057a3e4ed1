"""Decides how text becomes token ids and back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.normalizers import NFC
from tokenizers.pre_tokenizers import ByteLevel, Split
from tokenizers.pre_tokenizers import Sequence as InTurn

from standwatch.compression.json_files import entry, json_object

WHOLE_FILE = "tokenizer.json"
VOCAB, MERGES = "vocab.json", "merges.txt"
SETTINGS, ADDED = "tokenizer_config.json", "added_tokens.json"
TOKENIZER_FILES = (WHOLE_FILE, VOCAB, MERGES, SETTINGS, ADDED, "special_tokens_map.json")
IM_START = "<|im_start|>"
IM_END = "<|im_end|>"
END_OF_TEXT = "<|endoftext|>"

# Where Qwen2's vocabulary may not merge across: between words, single digits, punctuation and line ends.
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")


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


def from_folder(folder: Path) -> TextTokenizer:
    """The tokenizer of a checkpoint: tokenizer.json, else Qwen2's from vocab.json and merges.txt.

    Raises ValueError, naming the file and the fix, if there is neither or it cannot be used.
    """
    if (folder / WHOLE_FILE).is_file():
        tokenizer = _from_file(folder / WHOLE_FILE)
    elif (folder / VOCAB).is_file() and (folder / MERGES).is_file():
        tokenizer = _qwen2(folder)
    else:
        raise ValueError(
            f"checkpoint: {folder} has no tokenizer; copy {WHOLE_FILE}, or {VOCAB} with {MERGES} and {SETTINGS}, "
            "from where the weights came from"
        )
    # A saved tokenizer may cut texts to a length or fill them up; ours are what they are.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    try:
        return TextTokenizer(tokenizer)
    except ValueError as error:
        raise ValueError(f"checkpoint: {folder}: {error}") from None


def _from_file(path: Path) -> Tokenizer:
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # noqa: BLE001 (the library raises nothing narrower)
        raise ValueError(f"checkpoint: {path} cannot be read as a tokenizer ({error}); copy it anew") from None


def _qwen2(folder: Path) -> Tokenizer:
    try:
        vocab, merges = BPE.read_file(str(folder / VOCAB), str(folder / MERGES))
        tokenizer = Tokenizer(BPE(vocab=vocab, merges=merges))
    except Exception as error:  # noqa: BLE001 (the library raises nothing narrower)
        raise ValueError(f"checkpoint: {folder / VOCAB} and {MERGES} do not fit ({error}); copy both anew") from None
    tokenizer.normalizer = NFC()
    split = Split(Regex(_WORDS), behavior="isolated")
    tokenizer.pre_tokenizer = InTurn([split, ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = ByteLevelDecoder()
    for token_id, token in sorted(_added_tokens(folder).items()):
        tokenizer.add_tokens([token])
        if tokenizer.token_to_id(token.content) != token_id:
            raise ValueError(
                f"checkpoint: {folder}: {token.content!r} should have id {token_id}, but {VOCAB} and the tokens before "
                f"it give it {tokenizer.token_to_id(token.content)}; copy {WHOLE_FILE} instead"
            )
    return tokenizer


def _added_tokens(folder: Path) -> dict[int, AddedToken]:
    """Tokens that are not in the vocabulary, by id; the settings know more of them than the bare list."""
    found = {}
    for name, read in ((ADDED, _bare), (SETTINGS, _described)):
        if (folder / name).is_file():
            content = json_object(folder / name)
            try:
                found.update(read(content))
            except ValueError as error:
                raise ValueError(f"checkpoint: {folder / name}: {error}") from None
    return found


def _bare(content: Mapping[str, object]) -> dict[int, AddedToken]:
    return {entry(content, text, int, None): AddedToken(text, special=True) for text in content}


def _described(content: Mapping[str, object]) -> dict[int, AddedToken]:
    listed: Mapping[str, object] = entry(content, "added_tokens_decoder", dict, {})
    tokens: dict[str, Mapping[str, object]] = {token_id: entry(listed, token_id, dict, None) for token_id in listed}
    return {
        int(token_id): AddedToken(
            entry(token, "content", str, None), **{name: entry(token, name, bool, False) for name in _FLAGS}
        )
        for token_id, token in tokens.items()
    }
