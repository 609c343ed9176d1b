"""Peak memory of one case where the kernel lets a process reset its peak; else of the whole process, and it says so."""

import resource
import sys
from pathlib import Path
from typing import Any

_RESET, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


class PeakMemory:
    """From its making on: resident memory, and memory on the GPU where there is one."""

    def __init__(self) -> None:
        self.is_reset = True
        try:
            _RESET.write_text("5")  # proc(5): resets VmHWM
        except OSError:
            self.is_reset = False
        cuda = self._cuda()
        if cuda is not None:
            cuda.reset_peak_memory_stats()

    def peak(self) -> dict[str, Any]:
        """`peak_memory_mib`, of what (`peak_of`: case or process), and `peak_gpu_mib`."""
        found: dict[str, Any] = {
            "peak_memory_mib": self._resident_mib(), "peak_of": "case" if self.is_reset else "process"
        }  # fmt: skip
        cuda = self._cuda()
        if cuda is not None:
            found["peak_gpu_mib"] = round(cuda.max_memory_allocated() / 2**20)
        return found

    def _resident_mib(self) -> int:
        if self.is_reset:
            for line in _STATUS.read_text().splitlines():
                if line.startswith("VmHWM:"):
                    return round(int(line.split()[1]) / 1024)
        return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)

    @staticmethod
    def _cuda() -> Any:
        torch = sys.modules.get("torch")
        return torch.cuda if torch is not None and torch.cuda.is_available() else None
