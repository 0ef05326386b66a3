"""Read the samples of finished shards, without Energon."""

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cosmos_nemo.data.manifest import Manifest, ShardRecord
from cosmos_nemo.data.schema import SAMPLE_TYPES, SampleError, from_parts
from cosmos_nemo.errors import UserError


@dataclass(frozen=True, kw_only=True)
class RawSample:
    """The members of a tar that share a key: one sample, not parsed yet."""

    shard: ShardRecord
    key: str
    parts: dict[str, bytes]

    def read(self, manifest: Manifest) -> Any:
        """Parse the sample.

        Raises:
            SampleError: it is damaged.
        """
        return from_parts(self.key, self.parts, SAMPLE_TYPES[manifest.kind])

    @property
    def source(self) -> str:
        """The file that it was made from; for samples that do not say, the key.

        Raises:
            SampleError: its description is damaged.
        """
        import json

        if "json" not in self.parts:
            return self.key
        try:
            return str(json.loads(self.parts["json"])["source"])
        except (ValueError, KeyError, TypeError) as error:
            raise SampleError(f"sample {self.key!r}: part 'json' cannot be read: {error}", part="json") from error


def read_shard(folder: Path, shard: ShardRecord) -> Iterator[RawSample]:
    """Read the samples of a shard, one in memory at a time.

    Raises:
        UserError: it is missing, not a tar, or ends early; the samples before its end are given first.
    """
    file = folder / shard.name
    key = ""
    parts: dict[str, bytes] = {}
    try:
        with tarfile.open(file) as tar:
            for member in tar:
                stream = tar.extractfile(member)
                if stream is None:  # a folder
                    continue
                stem, part = split_name(member.name)
                if stem != key and parts:
                    yield RawSample(shard=shard, key=key, parts=parts)
                    parts = {}
                key, parts[part] = stem, stream.read()
                if len(parts[part]) != member.size:
                    raise tarfile.ReadError(f"{member.name} ends after {len(parts[part])} of {member.size} bytes")
        # A tar that was cut between two members looks whole to tarfile.
        with open(file, "rb") as raw:
            raw.seek(-min(1024, file.stat().st_size), 2)
            if raw.read().strip(b"\0"):
                raise tarfile.ReadError("the end is missing")
    except (OSError, tarfile.TarError) as error:
        raise UserError(f"shard {file} cannot be read after sample {key!r}: {error}") from error
    if parts:
        yield RawSample(shard=shard, key=key, parts=parts)


def read_dataset(folder: Path, manifest: Manifest, split: str | None = None) -> Iterator[RawSample]:
    """Read the samples of all shards in order, or of the shards of one split.

    Raises:
        UserError: see `read_shard`.
    """
    for shard in manifest.shards:
        if split in (None, shard.split):
            yield from read_shard(folder, shard)


def split_name(member: str) -> tuple[str, str]:
    """Split the name of a tar member into key and part, as Energon does: at the first dot after the last slash."""
    folder, slash, name = member.rpartition("/")
    stem, _, part = name.partition(".")
    return folder + slash + stem, part
