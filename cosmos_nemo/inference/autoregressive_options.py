"""Options of generation with an autoregressive model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cosmos_nemo.errors import UserError
from cosmos_nemo.inference.options import CommonOptions, require_file


@dataclass(kw_only=True)
class AutoregressiveOptions(CommonOptions):
    """Generations with an autoregressive model. None means the training run's value, or else the published default.

    Numbers are those of Cosmos-Predict1 `autoregressive/inference/base.py`.
    """

    input: tuple[Path, ...] = ()
    """Images or videos that the generated videos continue, one video each."""
    batch_input: Path | None = None
    """File of lines {"visual_input": FILE, "prompt": TEXT}, one per video; --prompt serves lines without a prompt."""
    num_input_frames: int = 9
    """Frames kept from the input: 1 or 9, which the models are trained for."""
    top_p: float = 0.8
    """Draw from the most likely tokens that together reach this probability."""
    temperature: float = 1.0
    """Divide the logits by this; 0 always takes the most likely token."""
    batch_size: int = 4
    """Videos generated at once; their number does not change them."""
    offload_tokenizer: bool = False
    """Free the tokenizer's memory while tokens are generated, and load it again to decode them."""

    def __post_init__(self) -> None:
        """Reject what is wrong whatever the checkpoint says.

        Raises:
            UserError: naming the flag and its legal values.
        """
        super().__post_init__()
        self.input = tuple(Path(path).expanduser() for path in self.input)
        if self.batch_input is not None and self.input:
            raise UserError("--input and --batch-input are both given; put the inputs into one of them.")
        if self.batch_input is None and not self.input:
            raise UserError("An autoregressive model continues a picture: give --input with an image or a video.")
        for path in self.input:
            require_file("input", path)
        require_file("batch_input", self.batch_input)
        if self.num_input_frames < 1:
            raise UserError(f"--num-input-frames {self.num_input_frames} is not possible; use 1 or 9.")
        if not 0 < self.top_p <= 1:
            raise UserError(f"--top-p {self.top_p} must be above 0 and at most 1; the published value is 0.8.")
        if self.temperature < 0:
            raise UserError(f"--temperature {self.temperature} must not be negative; 0 takes the most likely token.")
        if self.batch_size < 1:
            raise UserError(f"--batch-size {self.batch_size} must be at least 1.")
