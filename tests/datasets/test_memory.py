import logging
from pathlib import Path

import pytest

from medpipe.datasets.memory import GIB, available_bytes, jobs_within_memory


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_the_limit_of_a_cgroup_v2_job_counts_less_what_it_uses_but_not_its_page_cache(tmp_path: Path) -> None:
    write(tmp_path / "proc", "0::/slurm/job_7\n")
    write(tmp_path / "fs/slurm/job_7/memory.max", "900000\n")
    write(tmp_path / "fs/slurm/job_7/memory.current", "500000\n")
    write(tmp_path / "fs/slurm/job_7/memory.stat", "anon 1\ninactive_file 200000\n")
    write(tmp_path / "fs/slurm/memory.max", "max\n")
    assert available_bytes(tmp_path / "fs", tmp_path / "proc") == 600000


def test_the_limit_of_an_enclosing_group_counts_too(tmp_path: Path) -> None:
    write(tmp_path / "proc", "0::/slurm/job_7\n")
    for group, most in (("slurm/job_7", 900000), ("slurm", 300000)):
        write(tmp_path / "fs" / group / "memory.max", f"{most}\n")
        write(tmp_path / "fs" / group / "memory.current", "100000\n")
    assert available_bytes(tmp_path / "fs", tmp_path / "proc") == 200000


def test_a_container_sees_its_own_group_at_the_root_although_its_path_is_the_hosts(tmp_path: Path) -> None:
    write(tmp_path / "proc", "0::/docker/0123\n")
    write(tmp_path / "fs/memory.max", "700000\n")
    write(tmp_path / "fs/memory.current", "0\n")
    assert available_bytes(tmp_path / "fs", tmp_path / "proc") == 700000


def test_the_limit_of_a_cgroup_v1_job_counts(tmp_path: Path) -> None:
    write(tmp_path / "proc", "5:cpu,cpuacct:/x\n4:memory:/docker/1\n0::/\n")
    write(tmp_path / "fs/memory/docker/1/memory.limit_in_bytes", "800000\n")
    write(tmp_path / "fs/memory/docker/1/memory.usage_in_bytes", "300000\n")
    assert available_bytes(tmp_path / "fs", tmp_path / "proc") == 500000


def test_without_limits_the_machines_free_memory_counts(tmp_path: Path) -> None:
    assert available_bytes(tmp_path, tmp_path / "none") > 2**20


def test_jobs_are_cut_to_what_fits_and_it_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        # 80 % of 10 GiB holds three jobs of 2 GiB and 200 MiB.
        assert jobs_within_memory(8, 2 * GIB, "preparing", available=10 * GIB) == 3
    assert "preparing: 3 jobs instead of 8, because each may take 2.0 GiB and 10.0 GiB are free" in caplog.text


def test_jobs_that_fit_are_left_alone_in_silence(caplog: pytest.LogCaptureFixture) -> None:
    assert jobs_within_memory(2, GIB, "preparing", available=10 * GIB) == 2
    assert caplog.text == ""
