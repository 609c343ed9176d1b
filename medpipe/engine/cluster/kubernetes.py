"""One stage as a Job of Kubernetes (batch/v1). medpipe renders them; `kubectl apply` sends them.

Kubernetes knows no order between Jobs: an init container waits until the stages that it takes from are finished on the
shared volume. Exit code 75 starts a pod again without counting as a failure (podFailurePolicy, Kubernetes 1.31).
"""

import math
import re
from typing import Any

import yaml

from medpipe.engine.cluster.jobs import Job, Place
from medpipe.engine.cluster.options import ImageEnvironment
from medpipe.engine.cluster.quoting import shell

WORKFLOW = "/etc/medpipe/workflow.yaml"
PORT = 29500


def manifest(place: Place, job: Job) -> str:
    """The YAML of one stage: its Job, and a Service where its pods have to find each other."""
    documents = []
    if job.resources.nodes > 1:
        documents.append(service(place, job))
    documents.append(job_document(place, job))
    return "".join("---\n" + yaml.safe_dump(document, sort_keys=False, width=120) for document in documents)


def name_of(place: Place, *parts: str) -> str:
    """A name that DNS and Kubernetes accept."""
    text = "-".join([place.workflow.values.workflow, place.name, *parts]).lower()
    return re.sub(r"[^a-z0-9]+", "-", text)[:52].strip("-")


def metadata(place: Place, job: Job) -> dict[str, Any]:
    labels = {"app": "medpipe", "run": name_of(place), "stage": job.name}
    return {"name": name_of(place, job.name), "labels": labels}


def config_map(place: Place) -> str:
    """The workflow as it is submitted, for all Jobs of the run."""
    labels = {"app": "medpipe", "run": name_of(place)}
    document = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name_of(place), "labels": labels}}
    return "---\n" + yaml.safe_dump(document | {"data": {"workflow.yaml": place.workflow.text()}}, sort_keys=False)


def service(place: Place, job: Job) -> dict[str, Any]:
    """A headless service: the first pod gets an address that the others know beforehand."""
    spec = {"clusterIP": "None", "selector": {"job-name": name_of(place, job.name)}}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata(place, job), "spec": spec}


def job_document(place: Place, job: Job) -> dict[str, Any]:
    """The Job itself."""
    requeue, pods = place.cluster.requeue, job.resources.nodes * job.parts
    spec: dict[str, Any] = {
        "backoffLimit": requeue.at_most_after_death,
        "podFailurePolicy": {
            "rules": [
                {"action": "Ignore", "onExitCodes": {"containerName": "medpipe", "operator": "In", "values": [75]}}
            ]
        },
        "podReplacementPolicy": "Failed",
    }
    if pods > 1:
        at_once = job.resources.array_at_once if job.is_array else None
        spec |= {"completionMode": "Indexed", "completions": pods, "parallelism": at_once or pods}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata(place, job),
        "spec": spec | {"template": {"metadata": {"labels": metadata(place, job)["labels"]}, "spec": pod(place, job)}},
    }


def pod(place: Place, job: Job) -> dict[str, Any]:
    """One pod: a node of a training, or one part of an array."""
    environment = place.cluster.environment
    assert isinstance(environment, ImageEnvironment), "the configuration is checked"
    mounts = [{"name": f"claim-{index}", "mountPath": path} for index, path in enumerate(environment.claims)]
    container = {
        "name": "medpipe",
        "image": environment.image,
        "workingDir": str(place.cwd),
        "command": ["bash", "-c", shell_line(place, job)],
        "env": [{"name": name, "value": value} for name, value in place.cluster.variables.items()],
        "resources": {"requests": amounts(job), "limits": amounts(job)},
        "volumeMounts": [
            *mounts,
            {"name": "workflow", "mountPath": "/etc/medpipe"},
            {"name": "shm", "mountPath": "/dev/shm"},
        ],
    }
    volumes: list[dict[str, Any]] = [
        {"name": f"claim-{index}", "persistentVolumeClaim": {"claimName": claim}}
        for index, claim in enumerate(environment.claims.values())
    ]
    volumes.append({"name": "workflow", "configMap": {"name": name_of(place)}})
    volumes.append({"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": f"{environment.shm_gib:g}Gi"}})
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": place.cluster.requeue.grace_seconds,
        "containers": [container],
        "volumes": volumes,
    }
    if job.resources.nodes > 1:
        spec["subdomain"] = name_of(place, job.name)
    if job.needs:
        waiting = {"image": environment.image, "workingDir": str(place.cwd), "volumeMounts": mounts}
        spec["initContainers"] = [{"name": "wait", "command": ["bash", "-c", waiting_line(place, job)], **waiting}]
    return spec


def waiting_line(place: Place, job: Job) -> str:
    """Wait for the ledgers of the stages that this one takes from."""
    files = [str(place.run_folder / name / "done.json") for name in job.needs]
    return f'for done in {shell(files)}; do until [ -f "$done" ]; do sleep 15; done; done'


def shell_line(place: Place, job: Job) -> str:
    """What the container runs."""
    arguments = [WORKFLOW if word == str(place.kept_workflow) else word for word in job.arguments]
    words = [word for word in arguments if not word.startswith("--base=")]  # the original lies on another machine
    resources = job.resources
    if resources.processes > 1:
        return (
            f"export MEDPIPE_EXIT_FILE=/tmp/medpipe-exit-code; torchrun --nnodes={resources.nodes} "
            f"--nproc-per-node={resources.processes_per_node} --node-rank=${{JOB_COMPLETION_INDEX:-0}} "
            f"--master-addr={master(place, job)} --master-port={PORT} -m medpipe {shell(words)}; code=$?; "
            'if [ "$code" != 0 ] && [ -s "$MEDPIPE_EXIT_FILE" ]; then code=$(cat "$MEDPIPE_EXIT_FILE"); fi; '
            'exit "$code"'
        )
    if job.is_array:
        part = f'--part="$((JOB_COMPLETION_INDEX + 1))/{job.parts}"'
        return f"medpipe {shell(words)} {part} && medpipe {shell([*words, f'--finish={job.parts}'])}"
    return f"exec medpipe {shell(words)}"


def master(place: Place, job: Job) -> str:
    """The address of the first pod."""
    name = name_of(place, job.name)
    return f"{name}-0.{name}" if job.resources.nodes > 1 else "127.0.0.1"


def amounts(job: Job) -> dict[str, Any]:
    """CPUs, memory and GPUs of one pod."""
    resources = job.resources
    found: dict[str, Any] = {
        "cpu": resources.cpus_per_process * resources.processes_per_node,
        "memory": f"{math.ceil(resources.memory_gib)}Gi",
    }
    if resources.gpus_per_node:
        found["nvidia.com/gpu"] = resources.gpus_per_node
    return found
