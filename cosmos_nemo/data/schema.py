"""The contract between the writer of shards (`data_prep`) and their readers (`cosmos_nemo.data`), in one place.

What a sample is stands in `samples`, what a folder of shards is in `manifest`. `SCHEMA_VERSION` counts both.
"""

from cosmos_nemo.data.files import write_text_atomic
from cosmos_nemo.data.manifest import (
    MANIFEST_NAME,
    TASKS,
    EncoderRef,
    Manifest,
    ShardRecord,
    check_shards,
    read_manifest,
)
from cosmos_nemo.data.samples import (
    INFO_PART,
    LATENT_PART,
    MEDIA_PARTS,
    SAMPLE_TYPES,
    SCHEMA_VERSION,
    TEXT_PART,
    TOKENS_PART,
    AnySample,
    DiffusionSample,
    SampleError,
    SampleInfo,
    SampleT,
    TokenSample,
    VideoSample,
    from_parts,
    sample_id,
    to_parts,
)

__all__ = [
    "INFO_PART",
    "LATENT_PART",
    "MANIFEST_NAME",
    "MEDIA_PARTS",
    "SAMPLE_TYPES",
    "SCHEMA_VERSION",
    "TASKS",
    "TEXT_PART",
    "TOKENS_PART",
    "AnySample",
    "DiffusionSample",
    "EncoderRef",
    "Manifest",
    "SampleError",
    "SampleInfo",
    "SampleT",
    "ShardRecord",
    "TokenSample",
    "VideoSample",
    "check_shards",
    "from_parts",
    "read_manifest",
    "sample_id",
    "to_parts",
    "write_text_atomic",
]
