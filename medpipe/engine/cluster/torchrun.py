"""One machine with several GPUs: a script a stage, one after the other in the foreground, training under torchrun."""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from medpipe.engine.cluster.jobs import Job, Place, program
from medpipe.engine.cluster.options import ApptainerEnvironment, ShellEnvironment
from medpipe.engine.cluster.quoting import command, comment, shell

TAIL = """\
code=$?
# torchrun says 1 whatever its processes ended with; medpipe's own exit code is in the file.
if ((code != 0)) && [ -s "$MEDPIPE_EXIT_FILE" ]; then code=$(<"$MEDPIPE_EXIT_FILE"); fi
exit "$code"
"""


def script(place: Place, job: Job) -> str:
    """The whole script of one stage."""
    environment = place.cluster.environment
    assert isinstance(environment, ShellEnvironment | ApptainerEnvironment), "the configuration is checked"
    setup = list(environment.setup)
    if isinstance(environment, ShellEnvironment) and environment.venv is not None:
        setup.append(f". {shell([environment.venv + '/bin/activate'])}")
    log = place.folder / "logs" / f"{job.key}.log"
    lines = [
        "#!/bin/bash",
        f"# {job.name} ({job.kind}) of {place.workflow.values.workflow}, in {comment(str(place.run_folder))}",
        "# Written by `medpipe submit`. Run by hand, it goes on where it stopped.",
        f"cd {shell([str(place.cwd)])} || exit 1",
        f"exec > >(tee -a {shell([str(log)])}) 2>&1",
        *(f"export {name}={shell([value])}" for name, value in place.cluster.variables.items()),
        "MEDPIPE_EXIT_FILE=$(mktemp) && export MEDPIPE_EXIT_FILE",
        "trap 'rm -f \"$MEDPIPE_EXIT_FILE\"' EXIT",
        *(["set -e", *setup, "set +e"] if setup else []),
        "",
        command((*launcher(place, job), *job.arguments)),
    ]
    return "\n".join(lines) + "\n" + TAIL


def launcher(place: Place, job: Job) -> tuple[str, ...]:
    """The words before medpipe's arguments; torchrun where there are several processes."""
    words = program(place.cluster, job)
    count = job.resources.processes_per_node
    if count == 1:
        return words
    torchrun = ("torchrun", "--standalone", f"--nproc-per-node={count}", "-m", "medpipe")
    if words[0] == "apptainer":
        return (*words[:-1], *torchrun)
    return torchrun if words == ("medpipe",) else (words[0], "-m", "torch.distributed.run", *torchrun[1:])


def run_in_order(place: Place, jobs: Sequence[Job], scripts: Mapping[str, Path], console: Console) -> int:
    """Run the scripts one after the other; the exit code of the first that does not end well."""
    for job in jobs:
        console.print(f"[bold]{job.key}[/bold]", highlight=False)
        code = run_to_its_end([str(scripts[job.name])])
        if code:
            console.print(
                f"{job.name} ended with exit code {code}; the same command goes on from there", style="yellow"
            )
            return code if code in (1, 2, 3, 75) else 1
    console.print(f"finished: {place.run_folder}", highlight=False)
    return 0


def run_to_its_end(words: Sequence[str]) -> int:
    """Run a command; SIGTERM is handed on to its children, Ctrl-C reaches them anyhow; they may take time to save."""
    process = subprocess.Popen(words)
    before = {
        signal.SIGINT: signal.signal(signal.SIGINT, lambda number, frame: None),
        signal.SIGTERM: signal.signal(signal.SIGTERM, lambda number, frame: hand_on(process, number)),
    }
    try:
        return process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def hand_on(process: "subprocess.Popen[bytes]", number: int) -> None:
    """Send the signal to the children of the script: the shell itself waits for them."""
    import psutil

    for child in psutil.Process(process.pid).children():
        os.kill(child.pid, number)
