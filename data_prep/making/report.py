"""The report about the input, and progress for a caller to follow."""

import json
from dataclasses import asdict, dataclass

from data_prep.making.scan import Verdict


@dataclass(frozen=True, kw_only=True)
class Report:
    """Fate of every input."""

    verdicts: tuple[Verdict, ...]
    """One per stem of the input, sorted."""
    samples: dict[str, int]
    """Samples by split."""

    def count(self, status: str) -> int:
        """Count the stems with this status."""
        return sum(verdict.status == status for verdict in self.verdicts)

    def to_json(self) -> str:
        """Return the text of report.json."""
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
    """Events of a preparation. The methods do nothing; a caller who wants to hear of them overrides them."""

    def stage(self, name: str, total: int) -> None:
        """Hear that a stage of `total` steps begins."""

    def step(self, note: str) -> None:
        """Hear that one step is done."""

    def problem(self, report: Report) -> None:
        """Hear that the work stops because of this input, before the error is raised."""
