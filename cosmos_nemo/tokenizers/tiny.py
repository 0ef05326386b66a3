"""Tiny encoders made on the spot, for demonstrations and tests on a machine without the published weights.

They are saved in the published formats and loaded through the same functions as the real ones.
"""

import os
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

TINY_LATENT_CHANNELS = 16  # as the real one, so that the same models fit
TINY_TEXT_WIDTH = 64
MAX_TINY_WORDS = 4000


def new_tiny_wan(*, seed: int) -> Any:
    """A small `AutoencoderKLWan` with random weights and the real one's compression (8x8 in space, 4 in time).

    Args:
        seed: of the weights. The global generator of torch is left as it was.
    """
    from diffusers import AutoencoderKLWan

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AutoencoderKLWan(
            base_dim=8,
            z_dim=TINY_LATENT_CHANNELS,
            dim_mult=[1, 2, 4, 4],
            num_res_blocks=1,
            latents_mean=[0.0] * TINY_LATENT_CHANNELS,
            latents_std=[1.0] * TINY_LATENT_CHANNELS,
        )


def write_tiny_wan(folder: str | os.PathLike[str], *, seed: int) -> Path:
    """Save an untrained tiny video tokenizer.

    Returns: the folder, to be given to `load_wan`.
    """
    new_tiny_wan(seed=seed).save_pretrained(str(folder))
    return Path(folder)


def write_tiny_t5(folder: str | os.PathLike[str], *, seed: int, captions: Iterable[str]) -> Path:
    """Save a tiny T5 encoder with random weights and a tokenizer fitted to `captions`.

    Args:
        folder: where to save both.
        seed: of the weights.
        captions: texts whose words the vocabulary should hold; any other text is still tokenised.

    Returns: the folder, to be given to `load_t5`.
    """
    from transformers import T5Config, T5EncoderModel

    tokenizer = _tiny_tokenizer(captions)
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=TINY_TEXT_WIDTH,
        d_kv=16,
        d_ff=128,
        num_layers=2,
        num_heads=4,
        dropout_rate=0.0,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = T5EncoderModel(config)
    model.save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))
    return Path(folder)


def _tiny_tokenizer(captions: Iterable[str]) -> Any:
    """A Unigram tokenizer that knows whole words of `captions` and single characters.

    It is written down rather than trained: the trainer of `tokenizers` gives other files at every run.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import T5TokenizerFast

    texts = sorted(set(captions))
    words = Counter(word for text in texts for word in re.findall(r"\w+", text))
    common = sorted(words, key=lambda word: (-words[word], word))[:MAX_TINY_WORDS]
    # All printable ASCII, so that no English caption falls back to <unk>.
    characters = sorted({*map(chr, range(32, 127)), *"".join(texts), "\u2581"} - {" "})
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    vocabulary += [("\u2581" + word, -5.0) for word in common]  # U+2581 stands for the space before a word
    vocabulary += [(character, -10.0) for character in characters]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=2))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    # Without a template no </s> is added.
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return T5TokenizerFast(
        tokenizer_object=tokenizer, extra_ids=0, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
