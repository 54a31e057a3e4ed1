"""Decides how the vocabulary of a GGUF file becomes a tokenizer: byte-level BPE with every digit on its own (SmolLM2).

llama.cpp knows how each model's texts are cut into words by a name alone ("tokenizer.ggml.pre"); only those names are
accepted whose rule is written here. What comes out gives the ids that llama.cpp gives, control tokens included.
"""

from collections.abc import Mapping, Sequence

from gguf import TokenType
from tokenizers import AddedToken, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Digits
from tokenizers.pre_tokenizers import Sequence as InTurn

from standwatch.compression.json_files import entry

_KIND, _CUT = "gpt2", "smollm"


def tokenizer_of(metadata: Mapping[str, object]) -> Tokenizer:
    """The tokenizer that a GGUF file's metadata describes. Raises ValueError that starts with the key at fault."""
    for key, known in (("model", _KIND), ("pre", _CUT)):
        if (value := entry(metadata, f"tokenizer.ggml.{key}", str, None)) != known:
            raise ValueError(f"tokenizer.ggml.{key}: {value!r} is not known here, only {known!r} is")
    tokens: Sequence[str] = entry(metadata, "tokenizer.ggml.tokens", list, None)
    types: Sequence[int] = entry(metadata, "tokenizer.ggml.token_type", list, None)
    merges: Sequence[str] = entry(metadata, "tokenizer.ggml.merges", list, None)
    if len(types) != len(tokens) or set(types) - {TokenType.NORMAL, TokenType.CONTROL}:
        raise ValueError("tokenizer.ggml.token_type: must call each token normal or control; no other is known here")
    # Neither half of a merge has a space: byte-level BPE writes it as another letter.
    pairs = [(left, right) for left, _, right in (merge.partition(" ") for merge in merges)]
    try:
        tokenizer = Tokenizer(BPE(vocab={token: index for index, token in enumerate(tokens)}, merges=pairs))
    except Exception as error:  # noqa: BLE001 (the library raises nothing narrower)
        raise ValueError(f"tokenizer.ggml.merges: do not fit the tokens ({error})") from None
    tokenizer.pre_tokenizer = InTurn([Digits(individual_digits=True), ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = ByteLevelDecoder()
    control = [token for token, kind in zip(tokens, types, strict=True) if kind == TokenType.CONTROL]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in control])
    return tokenizer
