"""Make the tiny text encoder of the demonstration."""

from pathlib import Path

from cosmos_nemo.errors import UserError
from cosmos_nemo.files import staged
from cosmos_nemo.tokenizers.tiny import write_tiny_t5


def write_text_encoder(folder: Path, *, captions: Path, seed: int = 0) -> int:
    """Write a tiny T5 encoder whose tokenizer knows the words of a dataset. An existing one is replaced.

    Args:
        folder: where to write it, in one step.
        captions: dataset folder with ``metas/NAME.txt``.
        seed: of the weights.

    Returns:
        the number of captions.

    Raises:
        UserError: there are none.
    """
    texts = [file.read_text(encoding="utf-8").strip() for file in sorted((captions / "metas").glob("*.txt"))]
    if not any(texts):
        raise UserError(f"{captions / 'metas'} holds no captions; write them with `python -m data_prep metas`")
    with staged(folder, overwrite=True) as temporary:
        write_tiny_t5(temporary, seed=seed, captions=texts)
    return len(texts)
