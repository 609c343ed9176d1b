"""What masked pretraining costs where hidden blocks are really skipped, beside dense convolution and a mask.

    python benchmarks/masked_pretraining.py [--size base] [--patch 112 112 128] [--rounds 3] [--device cpu]
    python benchmarks/masked_pretraining.py --crossover      which form is faster at each level, for crossover.py

Forward, backward and an SGD step of the STU-Net encoder (five levels, blocks of 16^3), and of the whole pretraining
network with its light decoder, in three forms of equal results: masked (dense, then a mask, with a masked norm that
sums in float32), gathered (visible blocks alone), measured (at each level the faster one: what a workflow runs). Every
measurement is a process of its own, the forms taking turns; the quickest step of all rounds counts. Memory is the
largest above what the process holds with the network ready.

Bound of a whole step: multiplications of the masked form over those that remain when the encoder's shrink to the
visible share. Bars, on two cores: encoder 2.2 times as fast at 60 % hidden and 3.3 at 75 %; whole step 0.85 of its
bound; at most half the memory of the encoder.
"""

import argparse
import json
import multiprocessing
import os
import platform
import resource
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from torch import Tensor, nn

from medpipe.backbones.masked_autoencoder import SparseMaskedAutoencoder, build_sparse_autoencoder
from medpipe.backbones.masking import Visibility
from medpipe.backbones.options import LightDecoderOptions, SparseForm, StunetOptions
from medpipe.backbones.sparse_map import sparse_input
from medpipe.version import __version__

RESULT = Path(__file__).parent / "results" / "masked_pretraining.json"
FORMS: tuple[SparseForm, ...] = ("masked", "gathered", "measured")
HIDDEN = (0.6, 0.75)
ENCODER_BARS, STEP_BAR, MEMORY_BAR = {0.6: 2.2, 0.75: 3.3}, 0.85, 0.5
BLOCK = 16
VISIBLE_SHARES = (0.1, 0.25, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


def build(options: argparse.Namespace, form: SparseForm) -> SparseMaskedAutoencoder:
    torch.manual_seed(0)
    decoder = LightDecoderOptions(width=options.decoder_width)
    network = build_sparse_autoencoder(StunetOptions(size=options.size), decoder, form=form)
    assert isinstance(network, SparseMaskedAutoencoder)
    return network.to(options.device).to(memory_format=torch.channels_last_3d)  # pyright: ignore[reportCallIssue]


def hide(patch: list[int], share: float, device: str, batch: int = 1) -> Tensor:
    grid = [side // BLOCK for side in patch]
    scores = torch.rand(batch, *grid, generator=torch.Generator().manual_seed(1)).flatten(1)
    is_hidden = torch.zeros_like(scores, dtype=torch.bool)
    is_hidden.scatter_(1, scores.topk(round(share * scores.shape[1])).indices, True)
    return is_hidden.view(batch, *grid).to(device)


class PeakMemory:
    """The largest memory of this process while it lasts, above that before, in MiB."""

    def __init__(self, device: str) -> None:
        self.device = device

    def __enter__(self) -> "PeakMemory":
        if self.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
            self.before = torch.cuda.memory_allocated()
            return self
        self.before = self.largest = resident()
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()
        return self

    def _watch(self) -> None:
        while not self.ended.wait(0.002):
            self.largest = max(self.largest, resident())

    def __exit__(self, *_: object) -> None:
        if self.device == "cuda":
            self.mib = (torch.cuda.max_memory_allocated() - self.before) / 2**20
            return
        self.ended.set()
        self.thread.join()
        self.mib = (self.largest - self.before) / 2**20


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def clock(device: str) -> tuple[float, float]:
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter(), time.process_time()


def steps(options: argparse.Namespace, form: SparseForm, share: float, what: str) -> dict[str, Any]:
    """Wall and processor seconds of each step after the first, and the peak memory."""
    torch.set_num_threads(options.threads)
    network, is_hidden = build(options, form), hide(options.patch, share, options.device)
    module: nn.Module = network.encoder if what == "encoder" else network
    volume = torch.randn(1, 1, *options.patch, generator=torch.Generator().manual_seed(2)).to(options.device)
    optimiser = torch.optim.SGD(module.parameters(), 1e-4, momentum=0.9)
    spent = []
    with PeakMemory(options.device) as peak:
        for _ in range(1 + options.steps):
            began = clock(options.device)
            with torch.autocast(options.device, torch.bfloat16, enabled=options.bf16):
                loss = loss_of(network, volume, is_hidden, form, what)
            loss.backward()
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            spent.append([after - before for before, after in zip(began, clock(options.device), strict=True)])
    return {"steps": spent[1:], "mib": peak.mib, "loss": float(loss.detach())}


def loss_of(network: SparseMaskedAutoencoder, volume: Tensor, is_hidden: Tensor, form: SparseForm, what: str) -> Tensor:
    if what == "encoder":
        maps = network.encoder.sparse_maps(volume, Visibility(is_hidden, form))
        return torch.stack([x.values.float().square().sum() for x in maps]).sum() / volume.numel()
    return (network(volume, is_hidden).float() - volume).square().mean()


def multiplications(options: argparse.Namespace) -> tuple[float, float]:
    """GMAC of the encoder's convolutions and of the decoder's, forward, dense."""
    network = build(options, "masked")
    counts = {"encoder": 0, "light_decoder": 0}
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
            module.register_forward_hook(partial(_count, counts, name.split(".")[0]))
    with torch.inference_mode():
        network(torch.zeros(1, 1, *options.patch, device=options.device), hide(options.patch, 0.5, options.device))
    return counts["encoder"] / 1e9, counts["light_decoder"] / 1e9


def _count(counts: dict[str, int], part: str, module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
    assert isinstance(module, nn.Conv3d | nn.ConvTranspose3d)
    grid = output if isinstance(module, nn.Conv3d) else inputs[0]
    counts[part] += module.weight.numel() * grid.shape[0] * grid.shape[2:].numel()


def in_process(task: Any) -> Any:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(task)


def table(options: argparse.Namespace) -> list[dict[str, Any]]:
    encoder, decoder = in_process(partial(multiplications, options))
    rows = []
    for what in ("encoder", "step"):
        for share in options.hidden:
            runs: dict[str, list[dict[str, Any]]] = {form: [] for form in FORMS}
            for _ in range(options.rounds):
                for form in FORMS:
                    runs[form].append(in_process(partial(steps, options, form, share, what)))
            visible = 1 - share
            bound = 1 / visible if what == "encoder" else (encoder + decoder) / (encoder * visible + decoder)
            rows.append(summary(what, share, bound, runs))
            print(line(rows[-1]), flush=True)
    return rows


def summary(what: str, share: float, bound: float, runs: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    row: dict[str, Any] = {"what": what, "hidden": share, "bound": round(bound, 2)}
    for form, of_form in runs.items():
        walls, cpus = zip(*(step for run in of_form for step in run["steps"]), strict=True)
        row[form] = {
            "seconds": round(min(walls), 4),
            "cpu_seconds": round(min(cpus), 4),
            "all_seconds": [round(wall, 4) for wall in walls],
            "mib": round(max(run["mib"] for run in of_form)),
            "loss": of_form[0]["loss"],
        }
    for form in FORMS[1:]:
        row[form]["speed_up"] = round(row["masked"]["seconds"] / row[form]["seconds"], 2)
        row[form]["memory"] = round(row[form]["mib"] / row["masked"]["mib"], 2)
    row["holds"] = verdict(row)
    return row


def verdict(row: dict[str, Any]) -> dict[str, bool]:
    run = row["measured"]
    if row["what"] == "step":
        return {f"{STEP_BAR} of the bound": run["speed_up"] >= STEP_BAR * row["bound"]}
    bar = ENCODER_BARS.get(row["hidden"], 0.0)
    return {f"{bar} times as fast": run["speed_up"] >= bar, f"{MEMORY_BAR} of memory": run["memory"] <= MEMORY_BAR}


def line(row: dict[str, Any]) -> str:
    parts = [
        f"{form} {row[form]['seconds']:.3f} s {row[form]['mib']} MiB"
        + (f" ({row[form]['speed_up']:.2f}x, memory {row[form]['memory']:.2f})" if "speed_up" in row[form] else "")
        for form in FORMS
    ]
    bars = ", ".join(f"{bar}: {'yes' if holds else 'NO'}" for bar, holds in row["holds"].items())
    return f"{row['what']}, {row['hidden']:.0%} hidden, bound {row['bound']:.2f}: {'; '.join(parts)}; {bars}"


def crossover(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Seconds of each level alone, forward and backward, by visible share: processor time, quickest of the rounds."""
    torch.set_num_threads(options.threads)
    network = build(options, "masked")
    rows = []
    for number, level in enumerate(network.encoder.levels):
        stride = network.encoder.strides[max(0, number - 1)]
        size = [side // step for side, step in zip(options.patch, stride, strict=True)]
        channels = network.encoder.channels[number - 1] if number else 1
        for visible in VISIBLE_SHARES:
            visibility = Visibility(hide(options.patch, 1 - visible, options.device))
            volume = torch.randn(1, channels, *size, device=options.device)
            volume = volume.contiguous(memory_format=torch.channels_last_3d).requires_grad_(number > 0)
            seconds: dict[str, list[float]] = {"masked": [], "gathered": []}
            for _ in range(1 + options.rounds):
                for form, spent in seconds.items():
                    x = sparse_input(volume, visibility).laid_out(is_gathered=form == "gathered")
                    began = clock(options.device)
                    for block in level:  # pyright: ignore[reportGeneralTypeIssues]
                        x = block.sparse(x)
                    x.values.sum().backward()
                    spent.append(clock(options.device)[options.device == "cpu"] - began[options.device == "cpu"])
            quickest = {form: min(spent[1:]) for form, spent in seconds.items()}
            row = {
                "block": BLOCK >> number,
                "channels": network.encoder.channels[number],
                "visible": visible,
            } | quickest
            rows.append(row)
            print(
                f"block {row['block']:2} visible {visible:.2f}: masked {quickest['masked']:.4f}, gathered "
                f"{quickest['gathered']:.4f}: {quickest['masked'] / quickest['gathered']:.2f}x",
                flush=True,
            )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="base", choices=["tiny", "small", "base", "large", "huge"])
    parser.add_argument("--patch", type=int, nargs=3, default=[112, 112, 128])
    parser.add_argument("--decoder-width", type=int, default=LightDecoderOptions().width)
    parser.add_argument("--hidden", type=float, nargs="+", default=list(HIDDEN))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--crossover", action="store_true")
    parser.add_argument("--result", type=Path)
    options = parser.parse_args()
    rows = crossover(options) if options.crossover else table(options)
    result = {
        "medpipe": __version__,
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name() if options.device == "cuda" else platform.processor() or "CPU",
        "cores": os.cpu_count(),
        "options": {key: value for key, value in vars(options).items() if key != "result"},
        "rows": rows,
    }
    path = options.result or (None if options.crossover else RESULT)
    if path is not None:
        path.write_text(json.dumps(result, indent=1) + "\n")
        print(f"written {path}")


if __name__ == "__main__":
    main()
