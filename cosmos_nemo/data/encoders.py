"""Task encoders: how the raw parts of samples become batches, whatever the samples are.

The dataset is "crude": Energon hands over the raw bytes of each part, `from_parts` reads them. A cooker that is not
`@stateless` fails on every sample in Energon 7.4.1.
"""

import logging
import multiprocessing
from collections.abc import Callable
from typing import Any, Generic, NoReturn, TypeAlias, TypeVar

from megatron.energon import Cooker, DefaultTaskEncoder, Sample, SkipSample, basic_sample_keys, edataclass, stateless

from cosmos_nemo.data.manifest import Manifest
from cosmos_nemo.data.schema import SAMPLE_TYPES, SampleError, SampleT, from_parts
from cosmos_nemo.errors import UserError

logger = logging.getLogger(__name__)

BatchT = TypeVar("BatchT")


@edataclass
class CookedSample(Sample):
    """A sample of the schema wearing the fields that Energon needs to restore it."""

    content: Any


class SkippedSamples:
    """Counts the samples that could not be read, over all workers of this process.

    Each bad sample is logged once, with its shard and key.
    """

    limit_in_a_row = 100  # as Energon's own limit: beyond it the dataset is broken, not a sample

    def __init__(self) -> None:
        # Shared memory: Energon's workers are forked from this process.
        self._count = multiprocessing.get_context("fork").Value("q", 0)
        self._logged: set[str] = set()
        self._in_a_row = 0

    @property
    def count(self) -> int:
        """Samples skipped so far."""
        return int(self._count.value)

    def add(self, error: Exception, shard: str) -> None:
        """Count one bad sample.

        Raises:
            UserError: too many samples in a row were bad.
        """
        with self._count.get_lock():
            self._count.value += 1
        if str(error) not in self._logged:
            self._logged.add(str(error))
            logger.warning("skipped a sample of shard %s: %s", shard, error)
        self._in_a_row += 1
        if self._in_a_row >= self.limit_in_a_row:
            raise UserError(f"{self._in_a_row} samples in a row could not be read, the last in shard {shard}: {error}")

    def good(self) -> None:
        """Note that a sample could be read."""
        self._in_a_row = 0

    def on_error(self, error: Exception, sample: Any, sources: Any = None) -> None:
        """Energon's error handler: count what Energon itself could not read, let a `UserError` through."""
        if isinstance(error, UserError):
            raise error
        self.add(error, sources[0].shard_name if sources else "?")


class SampleTaskEncoder(DefaultTaskEncoder[Any, Any, Any, BatchT], Generic[SampleT, BatchT]):
    """Reads one kind of sample, skips and counts what cannot be read. A family adds `check` and `collate`."""

    decoder = None  # every part arrives as bytes; Energon's decoder would leave safetensors alone anyway
    sample_type: type[SampleT]

    def __init__(self, manifest: Manifest | None = None, skipped: SkippedSamples | None = None) -> None:
        """Make a task encoder.

        Args:
            manifest: of the dataset; None where there is none, the first sample then says what the others must be.
            skipped: counts the samples that cannot be read.
        """
        super().__init__()
        self.cookers = [Cooker(self.cook)]
        self.skipped = skipped or SkippedSamples()
        self._expected: dict[str, tuple[Any, str]] = {}
        if manifest is not None and SAMPLE_TYPES[manifest.kind] is not self.sample_type:
            wanted = next(kind for kind, sample_type in SAMPLE_TYPES.items() if sample_type is self.sample_type)
            raise UserError(
                f"the dataset holds {manifest.kind} samples (task {manifest.task}), this model reads {wanted} samples; "
                "prepare it with `python -m data_prep shards --for TASK` for the model's task"
            )

    def check(self, sample: SampleT, shard: str) -> None:
        """Compare a sample with the dataset; see `expect_same`.

        Raises:
            UserError: it does not fit. That is no damage but a wrong dataset, so it stops.
        """

    def collate(self, samples: list[SampleT]) -> BatchT:
        """Make a batch of samples."""
        raise NotImplementedError

    def expect(self, what: str, value: Any) -> None:
        """Note what the manifest says that samples have; None leaves it to the first sample."""
        if value is not None:
            self._expected[what] = (value, "the manifest")

    def expect_same(self, sample: SampleT, shard: str, what: str, found: Any, advice: str) -> None:
        """Stop at a sample that differs from the manifest, or else from the first one.

        Raises:
            UserError: names shard, sample, and both values.
        """
        expected, said_by = self._expected.setdefault(what, (found, f"the first sample {sample.key!r}"))
        if found != expected:
            raise UserError(
                f"shard {shard}, sample {sample.key!r}: {what} {found}, but {said_by} says {expected}{advice}"
            )

    @stateless
    def cook(self, raw: dict[str, Any]) -> CookedSample:
        """Turn the raw parts of one sample into a `CookedSample`; one that cannot be read is skipped and counted."""
        parts = {name: value for name, value in raw.items() if isinstance(value, bytes)}
        try:
            content = from_parts(raw["__key__"], parts, self.sample_type)
        except SampleError as error:
            self.skip(error, raw["__sources__"][0].shard_name)
        return CookedSample(**basic_sample_keys(raw), content=content)

    def skip(self, error: Exception, shard: str) -> NoReturn:
        """Leave out a sample that turned out to be unreadable, and count it."""
        self.skipped.add(error, shard)
        raise SkipSample from error

    @stateless
    def encode_sample(self, sample: CookedSample) -> Any:
        """Check the sample against the dataset; see `check`."""
        self.check(sample.content, shard_of(sample))
        self.skipped.good()
        return sample

    @stateless
    def batch(self, samples: list[Any]) -> BatchT:
        """See `collate`."""
        return self.collate([sample.content for sample in samples])


MakeTaskEncoder: TypeAlias = Callable[[Manifest | None, SkippedSamples], SampleTaskEncoder[Any, BatchT]]


def shard_of(sample: Sample) -> str:
    """Name of the tar that a sample comes from."""
    return sample.__sources__[0].shard_name if sample.__sources__ else "?"
