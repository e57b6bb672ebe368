"""Names of tensors and operators: C identifiers that still tell where they come from."""

from __future__ import annotations

import re

#: Suffixes of quantization tools; the value is the same to a reader of the program.
_NOISE = re.compile(
    r"(_DequantizeLinear_Output|_QuantizeLinear_Output|_DequantizeLinear|_QuantizeLinear"
    r"|_dequantized|_quantized|_dequant|_quant|_dq|_q|:0)$"
)
_LONGEST = 40
_WORD = re.compile(r"_[A-Za-z]")


class Names:
    """Hands out names, each once."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def new(self, identifier: str) -> str:
        """``identifier``; a number follows when it is taken."""
        name, count = identifier, 1
        while name in self._taken:
            count += 1
            name = f"{identifier}_{count}"
        self._taken.add(name)
        return name


def identifier(hint: str) -> str:
    """Letters, digits and underscores, starting with a letter, at most 40 long.

    Of fused names (``a;b;c``, from TensorFlow Lite) the first is kept, of long paths the end.
    """
    text = hint.partition(";")[0]
    while (shorter := _NOISE.sub("", text)) != text and shorter:
        text = shorter
    text = re.sub(r"\W+", "_", text, flags=re.ASCII).strip("_")
    if len(text) > _LONGEST:
        whole = _WORD.search(text, len(text) - _LONGEST)
        text = text[whole.start() + 1 :] if whole else text[-_LONGEST:]
    if not text or not text[0].isalpha():
        text = f"t_{text}".rstrip("_")
    return text
