"""One stage as a script for sbatch: readable, complete, and able to put itself back into the queue.

The part that requeues is shell outside of any container, for `scontrol` is seldom inside one (pytorch-lightning issue
21404). medpipe answers SIGUSR1 and SIGTERM by saving at the next safe place and leaving with exit code 75.
"""

import math
import re

from medpipe.engine.cluster.jobs import Job, Place, program
from medpipe.engine.cluster.options import ApptainerEnvironment, ShellEnvironment
from medpipe.engine.cluster.quoting import command, comment, directive, job_name, no_pattern, shell

WRAPPER_FILE = "wrapper.sh"
WRAPPER = """\
# shellcheck shell=bash
# What every job of @RUN@ does around its work. Written by `medpipe submit`.
# A job that is started again after a stop or a preemption runs the same script, and goes on where the work was saved.

self=${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}${SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}
restarts=${SLURM_RESTART_COUNT:-0}
events=@EVENTS@/$self.jsonl

tell() {  # tell EVENT WORDS: into this log, and into the file that `medpipe status` reads
    echo "medpipe job $self, restart $restarts: $2"
    printf '{"time": "%s", "event": "%s", "restart": %d, "code": %d, "node": "%s", "text": "%s"}\\n' \\
        "$(date -u +%Y-%m-%dT%H:%M:%S+00:00)" "$1" "$restarts" "${code:-0}" "${SLURMD_NODENAME:-}" "$2" >>"$events"
}

again() {  # again WORDS: back into the queue, unless Slurm is ending the job: cancelled, or put back from outside
    if scontrol show job "$self" -o | grep -q 'JobState=RUNNING'; then
        tell requeue "$1"
        scontrol requeue "$self" || tell failed "scontrol requeue failed, see above; start it by medpipe submit"
    else
        tell ended "ended from outside: cancelled, or already back in the queue"
    fi
}

end_job() {  # end_job CODE: say how the work ended, put the job back into the queue where that is due, and leave
    code=$1
    if ((code == 0)); then
        tell 'done' "done"
    elif ((code == 75)); then
        if ((restarts < @AT_MOST@)); then
            again "stopped on request with everything saved (a time limit near, a preemption): starts again"
        else
            tell gave_up "stopped on request after $restarts restarts, more than requeue.at_most=@AT_MOST@ allows"
        fi
    elif ((code > 128)); then
        deaths=$(grep -c '"event": "death"' "$events")
        tell death "a process was killed by signal $((code - 128)) (9: often memory, 7: often /dev/shm)"
        if ((deaths < @AT_MOST_AFTER_DEATH@)); then
            pause=$((@WAIT@ << deaths))
            sleep $((pause < 600 ? pause : 600))
            again "starts again from the last save, after death $((deaths + 1)) of @AT_MOST_AFTER_DEATH@ allowed"
        else
            tell gave_up "killed once more after @AT_MOST_AFTER_DEATH@ restarts (requeue.at_most_after_death)"
        fi
    elif ((code == 2)); then
        tell failed "the command or the workflow is wrong (exit code 2), see above"
    elif ((code == 3)); then
        tell failed "the data are wrong (exit code 3), see above"
    else
        tell failed "failed with exit code $code, see above"
    fi
    exit "$code"
}

mkdir -p "${events%/*}"
trap 'echo "medpipe job $self: SIGTERM, waiting for the work to be saved"' TERM
tell start "starts on ${SLURM_JOB_NODELIST:-this machine}"
"""


def wrapper(place: Place) -> str:
    """The shell functions that the scripts of a run share: events, the way back into the queue."""
    requeue = place.cluster.requeue
    values = {
        "@RUN@": comment(str(place.run_folder)),
        "@EVENTS@": shell([str(place.folder / "events")]),
        "@AT_MOST@": str(requeue.at_most),
        "@AT_MOST_AFTER_DEATH@": str(requeue.at_most_after_death),
        "@WAIT@": str(requeue.wait_seconds),
    }
    return re.sub("|".join(values), lambda match: values[match[0]], WRAPPER)


def script(place: Place, job: Job) -> str:
    """The whole script of one job."""
    heading = f"# {job.name} ({job.kind}) of {place.workflow.values.workflow}, in {comment(str(place.run_folder))}"
    parts = [
        "\n".join(["#!/bin/bash", heading, *directives(place, job)]),
        f"# shellcheck source=/dev/null\n. {shell([str(place.folder / WRAPPER_FILE)])} || exit 1",
        prologue(place),
        work(place, job),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def directives(place: Place, job: Job) -> list[str]:
    """The #SBATCH lines."""
    resources, log = job.resources, place.folder / "logs" / job.key
    lines = [
        directive("--job-name", job_name(place.workflow.values.workflow, job.name)),
        directive("--chdir", str(place.cwd)),
        directive("--output", no_pattern(str(log)) + ("-%A_%a.log" if job.is_array else "-%j.log")),
        directive("--open-mode", "append"),
        directive("--requeue"),
        directive("--signal", f"USR1@{place.cluster.requeue.grace_seconds}"),
        directive("--kill-on-invalid-dep", "yes"),
        directive("--time", time_limit(resources.hours)),
        directive("--nodes", str(resources.nodes)),
        directive("--ntasks-per-node", str(resources.processes_per_node)),
        directive("--cpus-per-task", str(resources.cpus_per_process)),
        directive("--mem", f"{math.ceil(resources.memory_gib * 1024)}M"),
    ]
    if resources.gpus_per_node:
        kind = f"{resources.gpu_type}:" if resources.gpu_type else ""
        lines.append(directive("--gpus-per-node", f"{kind}{resources.gpus_per_node}"))
    for option in ("partition", "account", "qos", "constraint"):
        value = getattr(resources, option)
        if value is not None:
            lines.append(directive(f"--{option}", value))
    if job.is_array:
        at_once = f"%{resources.array_at_once}" if resources.array_at_once else ""
        lines.append(directive("--array", f"1-{job.parts}{at_once}"))
    return lines + [directive(option) for option in resources.sbatch]


def time_limit(hours: float) -> str:
    """Hours as Slurm writes them: D-HH:MM:SS."""
    seconds = math.ceil(3600 * hours)
    days, rest = divmod(seconds, 86400)
    clock = f"{rest // 3600:02d}:{rest % 3600 // 60:02d}:{rest % 60:02d}"
    return f"{days}-{clock}" if days else clock


def prologue(place: Place) -> str:
    """Variables, then modules and the environment; a line that fails ends the job."""
    environment = place.cluster.environment
    lines = [f"export {name}={shell([value])}" for name, value in place.cluster.variables.items()]
    setup = list(environment.setup) if isinstance(environment, ShellEnvironment | ApptainerEnvironment) else []
    if isinstance(environment, ShellEnvironment) and environment.venv is not None:
        setup.append(f". {shell([environment.venv + '/bin/activate'])}")
    if setup:
        ended = 'code=$?; tell failed "the set-up of the environment failed, see above"'
        lines += [
            "set -e  # a line of the set-up that fails ends the job",
            f"trap '{ended}' ERR",
            *setup,
            "trap - ERR",
            "set +e",
        ]
    return "\n".join(lines)


def work(place: Place, job: Job) -> str:
    """The command itself, under srun: one process a task.

    The processes end together by themselves, each with its word; what is left a minute after the first is ended.
    --kill-on-bad-exit=1 would send SIGTERM to one that is about to leave in good order.
    """
    words = (*program(place.cluster, job), *job.arguments)
    srun = ("srun", "--kill-on-bad-exit=0", "--wait=60", f"--cpus-per-task={job.resources.cpus_per_process}", *words)
    if not job.is_array:
        return f"{command(srun)}\nend_job $?"
    part = f'--part="$SLURM_ARRAY_TASK_ID/{job.parts}"'
    return (
        f"{command(srun)} {part}\ncode=$?\n"
        "if ((code == 0)); then  # whichever ends last brings the parts together\n"
        f"    {command((*words, f'--finish={job.parts}'), indent='        ')}\n"
        "    code=$?\n"
        "fi\n"
        'end_job "$code"'
    )
