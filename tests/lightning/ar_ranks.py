"""What each rank runs in the autoregressive training tests: a small network on random token ids, or on videos."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch

from cosmos_nemo.platform.install import install
from tests.lightning import ranks

CONFIG = {
    "num_layers": 2,
    "hidden_size": 48,
    "num_attention_heads": 4,
    "num_query_groups": 2,
    "kv_channels": 12,
    "ffn_hidden_size": 64,
    "vocab_size": 100,
}


def fit(shards: str, root: str, name: str, **changes: Any) -> int | None:
    """Trains run `name` below `root`; see `ranks.fit`."""

    def parts() -> tuple[Any, Any]:
        from cosmos_nemo.lightning.autoregressive import ARModule
        from cosmos_nemo.lightning.data import EnergonDataModule
        from cosmos_nemo.models.autoregressive.config import ARConfig
        from cosmos_nemo.models.autoregressive.loss import NextTokenObjective

        module = ARModule(
            ARConfig(**(CONFIG | changes.get("model", {}))),
            NextTokenObjective(**changes.get("objective", {})),
            seed=7,
            **changes.get("weights", {}),
        )
        data = {"micro_batch_size": 1, "global_batch_size": 2, "num_workers": 0} | changes.get("data", {})
        return module, EnergonDataModule(path=shards, **data)

    install(nemo=True)
    return ranks.run(parts, root, name, **({"schedule": cosine(2), "lr": 1e-2} | changes))


refused = partial(ranks.refused, start=fit)

TEXT = {
    "model": {
        "input_vocab_size": 104,
        "num_prefix_tokens": 1,
        "use_abs_pos_emb": True,
        "use_yarn": True,
        "crossattn_emb_channels": 8,
    },
    "data": {"text_length": 9},
}
"""A network that reads text."""


def one_process(tokens: str, videos: str, tokenizer: str, root: str) -> dict[str, Any]:
    """Everything that needs one process."""
    install(nemo=True)
    from cosmos_nemo.models.common.lora import LoRA

    runs = Path(root) / "p/g"
    seen: dict[str, Any] = {}
    fit(tokens, root, "straight")
    seen["code_after_sigterm"] = fit(tokens, root, "cut", callbacks=ranks.terminated())
    fit(tokens, root, "cut")
    fit(tokens, root, "text", **TEXT)
    lora = {"ar_path": str(runs / "straight"), "lora": LoRA(rank=2, alpha=4.0)}
    fit(tokens, root, "lora", weights=lora)
    fit(tokens, root, "lora_cut", weights=lora, callbacks=ranks.terminated())
    fit(tokens, root, "lora_cut", weights=lora)
    merged = {"ar_path": str(runs / "lora")}
    fit(tokens, root, "from_lora", weights=merged, max_steps=1, schedule=cosine(0))
    window = {"window": clip_window(num_frames=9, size=(64, 96)), "tokenizer_path": tokenizer}
    raw = {"data": window, "model": {"vocab_size": 64000}, "max_steps": 3}
    fit(videos, root, "videos", **raw)
    captioned = str(Path(videos).parent / "captioned")
    reads = raw | {
        "data": window | TEXT["data"],
        "model": TEXT["model"] | {"vocab_size": 64000, "input_vocab_size": 64064},
    }
    fit(captioned, root, "captioned", **reads)
    fit(captioned, root, "captioned_start", **(reads | {"max_steps": 1, "schedule": cosine(0), "lr": 1e-8}))

    seen["no_text"] = refused(videos, root, "other", **reads)
    seen["no_tokenizer"] = refused(videos, root, "other", data=window | {"tokenizer_path": None})
    odd = window | {"window": clip_window(num_frames=9, size=(60, 96))}
    seen["odd_window"] = refused(videos, root, "other", **(raw | {"data": odd}))
    seen["small_vocabulary"] = refused(videos, root, "other", **(raw | {"model": {"vocab_size": 6400}}))
    seen["vocabulary"] = refused(tokens, root, "other", model={"vocab_size": 90})
    seen["too_short"] = refused(tokens, root, "other", objective={"num_condition_latents_t": 2})
    seen["no_text_length"] = refused(tokens, root, "other", model=TEXT["model"])
    seen["text_width"] = refused(tokens, root, "other", model=TEXT["model"] | {"crossattn_emb_channels": 16})
    seen["warm_up"] = refused(tokens, root, "other", schedule=cosine(6))
    seen["heads"] = refused(tokens, root, "straight", model={"num_layers": 3})
    return seen


def clip_window(*, num_frames: int, size: tuple[int, int]) -> Any:
    from cosmos_nemo.data.window import ClipWindow

    return ClipWindow(num_frames=num_frames, height=size[0], width=size[1], space="cover")


def cosine(warm_up_steps: int) -> Any:
    from cosmos_nemo.lightning.optim import WarmupCosine

    return WarmupCosine(warm_up_steps=warm_up_steps)


PARALLEL = {
    "tensor2": {"tensor_model_parallel_size": 2, "sequence_parallel": True},
    "context2": {"context_parallel_size": 2},
    "pipeline2": {"pipeline_model_parallel_size": 2},
}


def two_processes(tokens: str, root: str) -> dict[str, Any]:
    """Everything that needs two processes; the runs of one process are already there."""
    install(nemo=True)
    from cosmos_nemo.models.common.lora import LoRA

    runs = Path(root) / "p/g"
    copies = {runs / name: runs / "straight" for name in PARALLEL} | {runs / "lora_tensor2": runs / "lora"}
    ranks.copy_starts(copies, Path(root) / "copied_ar")
    for name, strategy in PARALLEL.items():
        fit(tokens, root, name, strategy=strategy)
    lora = {"ar_path": str(runs / "straight"), "lora": LoRA(rank=2, alpha=4.0)}
    fit(tokens, root, "lora_tensor2", weights=lora, strategy=PARALLEL["tensor2"])
    seen = {"heads": refused(tokens, root, "odd", strategy=PARALLEL["tensor2"], model={"num_query_groups": 1})}
    seen["layers"] = refused(tokens, root, "odd", strategy=PARALLEL["pipeline2"], model={"num_layers": 3})
    return seen


def published(root: str, name: str) -> dict[str, torch.Tensor]:
    """Published weights of a run, as export writes them."""
    from cosmos_nemo.checkpoints import convert, megatron
    from cosmos_nemo.models.autoregressive.config import ARConfig
    from cosmos_nemo.models.autoregressive.model import AutoregressiveTransformer
    from tests.models.dit_cases import one_process_parallel_state

    one_process_parallel_state()
    model = AutoregressiveTransformer(ARConfig(**CONFIG))
    megatron.load_training_checkpoint(model, Path(root) / "p/g" / name)
    return {key: value.clone() for key, value in convert.published_state_dict(model).items()}
