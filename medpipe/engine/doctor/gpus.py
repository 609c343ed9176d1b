"""GPUs as torch sees them. Imports torch."""

from collections.abc import Iterator

from medpipe.engine.doctor.finding import Finding

GIB = 2**30
LEAST_CAPABILITY = (7, 0)  # of torch's present builds and of 16-mixed with tensor cores
LITTLE_GIB = 11  # patches of 128^3, batch of 2, STU-Net base in 16-mixed


def gpu_findings() -> Iterator[Finding]:
    """One line a GPU, or that there is none, and why not where a driver is there."""
    try:
        import torch
    except Exception as error:
        remedy = "pip install --force-reinstall torch"
        yield Finding("torch", "fault", f"does not load: {type(error).__name__}: {error}", remedy)
        return
    if not torch.cuda.is_available():
        yield no_gpu(torch)
        return
    nccl = ".".join(map(str, torch.cuda.nccl.version()))  # pyright: ignore[reportAttributeAccessIssue]
    driver = f"CUDA {torch.version.cuda}, NCCL {nccl}"
    yield Finding("CUDA", "ok", f"{torch.cuda.device_count()} GPUs, {driver}")
    for index in range(torch.cuda.device_count()):
        yield from one_gpu(torch, index)


def no_gpu(torch: object) -> Finding:
    """Told as a fault where the machine has a GPU that torch cannot use."""
    from pathlib import Path

    has_driver = Path("/proc/driver/nvidia/version").is_file() or Path("/dev/nvidiactl").exists()
    built = torch.version.cuda  # type: ignore[attr-defined]
    if not has_driver:
        text = "none on this machine: networks run on the CPU"
        return Finding("GPU", "warning", text, "look on a GPU node: srun --gpus=1 medpipe doctor")
    if built is None:
        return Finding("GPU", "fault", "there is one, but torch is a build for the CPU", "install torch with CUDA")
    text = f"there is one, but torch (CUDA {built}) cannot use it"
    return Finding("GPU", "fault", text, "update the driver, or ask the scheduler for a GPU; see nvidia-smi")


def one_gpu(torch: object, index: int) -> Iterator[Finding]:
    """Capability, memory, and a multiplication that has to be right."""
    cuda = torch.cuda  # type: ignore[attr-defined]
    properties = cuda.get_device_properties(index)
    capability = (properties.major, properties.minor)
    name = f"GPU {index}"
    try:
        free, total = (amount / GIB for amount in cuda.mem_get_info(index))
        ones = torch.ones(64, 64, device=f"cuda:{index}")  # type: ignore[attr-defined]
        right = bool((ones @ ones == 64).all())
    except RuntimeError as error:
        remedy = "look at nvidia-smi; another job may hold it, or it needs a reset by an administrator"
        yield Finding(name, "fault", f"{properties.name} does not work: {str(error).splitlines()[0]}", remedy)
        return
    text = f"{properties.name}, capability {capability[0]}.{capability[1]}, {free:.1f} of {total:.1f} GiB free"
    if not right:
        yield Finding(name, "fault", f"{text}: multiplies wrong", "take the node out of use and tell its administrator")
    elif capability < LEAST_CAPABILITY:
        yield Finding(
            name, "fault", text, f"medpipe needs capability {LEAST_CAPABILITY[0]}.{LEAST_CAPABILITY[1]} or more"
        )
    elif total < LITTLE_GIB:
        yield Finding(name, "warning", text, "little memory: take backbone.size=small or smaller patches")
    elif free < 0.9 * total:
        yield Finding(name, "warning", text, "something else uses it: see nvidia-smi")
    else:
        yield Finding(name, "ok", text)
