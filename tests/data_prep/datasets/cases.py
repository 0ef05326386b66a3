"""Finished datasets and what is asked of them, for the tests of this room."""

from dataclasses import replace

from typer.testing import CliRunner

from cosmos_nemo.data.schema import to_parts
from data_prep.__main__ import app
from data_prep.datasets.verify import verify
from tests.data.shards import TOKEN_SHAPE, VOCAB_SIZE, make_sample, write_dataset
from tests.data_prep.conftest import samples_in

SHARDS = {
    "train-000000.tar": [make_sample(f"a{i}") for i in range(3)],
    "train-000001.tar": [make_sample(f"b{i}") for i in range(2)],
    "val-000000.tar": [make_sample("v0")],
}
TOKENS = {
    "task": "autoregressive",
    "kind": "tokens",
    "latent_shape": None,
    "latent_dtype": None,
    "token_shape": TOKEN_SHAPE,
    "vocab_size": VOCAB_SIZE,
}


def with_source(key, source):
    sample = make_sample(key)
    return replace(sample, info=replace(sample.info, source=source))


def write_set(folder, name, num_train=4, num_val=2, **manifest):
    def samples(split, count):
        return [with_source(f"{name}{split}{i}", f"videos/{name}{split}{i // 2}.mp4") for i in range(count)]

    shards = {"train-000000.tar": samples("t", num_train), "val-000000.tar": samples("v", num_val)}
    return write_dataset(folder / name, shards, **manifest)


def bytes_of(folder):
    return {key: to_parts(sample) for key, sample in samples_in(folder).items()}


def problems(folder, **options):
    return [(p.shard, p.sample, p.field, p.reason) for p in verify(folder, **options)]


def damage_some(sample, parts):
    return parts | {"json": b"{"} if sample.key in ("a1", "v0") else parts


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
