"""What became of the input, and what a caller may want to hear meanwhile."""

import json
from dataclasses import asdict, dataclass

from data_prep.making.scan import Verdict


@dataclass(frozen=True, kw_only=True)
class Report:
    """What became of the input."""

    verdicts: tuple[Verdict, ...]  # one per stem of the input, sorted
    samples: dict[str, int]  # split -> samples

    def count(self, status: str) -> int:
        """Stems with this status."""
        return sum(verdict.status == status for verdict in self.verdicts)

    def to_json(self) -> str:
        """The text of report.json."""
        counts = {
            "input": len(self.verdicts),
            "matched": self.count("used") + self.count("skipped"),
            "unmatched": self.count("unmatched"),
            "used": self.count("used"),
            "skipped": self.count("skipped"),
        }
        body = {"counts": counts, "samples": self.samples, "verdicts": [asdict(v) for v in self.verdicts]}
        return json.dumps(body, indent=2, sort_keys=True) + "\n"


class Progress:
    """What a caller may want to hear about; the methods do nothing."""

    def stage(self, name: str, total: int) -> None:
        """A stage of `total` steps begins."""

    def step(self, note: str) -> None:
        """One step is done."""

    def problem(self, report: Report) -> None:
        """The work stops because of this input; called before the error is raised."""
