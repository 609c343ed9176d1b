"""Which jobs were submitted for a run: `<run>/cluster/jobs.json`."""

from dataclasses import asdict, dataclass
from pathlib import Path

from medpipe.engine.cluster.jobs import FOLDER
from medpipe.engine.ledger import read_json
from medpipe.stages.stage import write_json


@dataclass(frozen=True)
class SubmittedJob:
    """One job (or array) as it was given to the scheduler."""

    name: str
    number: int
    job: str
    parts: int
    needs: tuple[str, ...]
    submitted: str

    @property
    def key(self) -> str:
        return f"{self.number:02d}-{self.name}"


@dataclass
class JobList:
    """All jobs of a run in the order of submission; of each stage the last one counts."""

    path: Path
    jobs: list[SubmittedJob]

    @classmethod
    def read(cls, run_folder: Path) -> "JobList":
        path = run_folder / FOLDER / "jobs.json"
        kept = (read_json(path) or {"jobs": []})["jobs"]
        return cls(path, [SubmittedJob(**{**entry, "needs": tuple(entry["needs"])}) for entry in kept])

    def add(self, job: SubmittedJob) -> None:
        """Append and write at once: a submission that breaks off leaves no job unknown."""
        self.jobs.append(job)
        write_json(self.path, {"jobs": [asdict(entry) for entry in self.jobs]})

    def latest(self) -> dict[str, SubmittedJob]:
        """Stage -> its last job."""
        return {job.name: job for job in self.jobs}
