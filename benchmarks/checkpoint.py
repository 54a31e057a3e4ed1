"""Peak memory while a checkpoint is loaded, over the size of the model that is in memory afterwards.

A checkpoint of the published layout (all 28 layers and 23 blocks) at reduced width is written as others write theirs:
safetensors and .bin, in shards and in one file. Each is loaded by a process of its own, in the precision on disk and
from float32 to bfloat16. Counted is the process's peak resident set as the kernel keeps it (VmHWM: allocated memory,
touched pages of mapped files, and shared memory together), from right before loading on, less what was resident right
before: interpreter, libraries, and their first use on a small checkpoint. Pages of files that no process maps
any more are the kernel's cache and no process's memory. The limit is 1, the model itself; the worst case counts.

    python -m benchmarks.checkpoint
"""

import argparse
import gc
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file

from standwatch.compression.checkpoint import fill
from standwatch.compression.checkpoint_config import read_model_config
from standwatch.compression.checkpoint_files import open_checkpoint
from standwatch.compression.checkpoint_saving import save
from standwatch.compression.xcomp import XComp, build
from standwatch.configs.schema import LanguageConfig, ModelConfig, VisionConfig

TARGET = 1.2
SHARD_BYTES = 300 * 10**6
MODEL = ModelConfig(
    vision=VisionConfig(image_px=224, width=512, heads=8, mlp_width=2048),
    language=LanguageConfig(width=512, mlp_width=2560, heads=8, kv_heads=2, head_dim=64, vocab=40_000),
)
WARM = replace(
    MODEL,
    vision=replace(MODEL.vision, width=64, heads=1, mlp_width=64),
    language=replace(MODEL.language, width=64, mlp_width=64, heads=1, kv_heads=1, vocab=512),
)
CASES = tuple(
    (f"{kind}, {form}", dtype)
    for kind in ("safetensors", "bin")
    for form in ("sharded", "one file")
    for dtype in ("float32", "bfloat16")
)


def write(root: Path) -> None:
    """Every form of the checkpoint, in float32, and the small one that warms a process up."""
    model = build(MODEL)
    for form, shard_bytes in (("sharded", SHARD_BYTES), ("one file", 10 * SHARD_BYTES)):
        save(model, root / f"safetensors, {form}", max_shard_bytes=shard_bytes)
        as_bin(root / f"safetensors, {form}", root / f"bin, {form}")
    save(build(WARM), root / "warm")


def as_bin(origin: Path, folder: Path) -> None:
    """The same checkpoint as torch.save writes it."""
    folder.mkdir()
    for path in origin.iterdir():
        renamed = folder / path.name.replace("model", "pytorch_model", 1).replace(".safetensors", ".bin")
        if path.suffix == ".safetensors":
            torch.save(load_file(path), renamed)
        elif path.name == "config.json":
            renamed.write_text(path.read_text())
        else:
            places = json.loads(path.read_text())["weight_map"]
            renamed.write_text(
                json.dumps(
                    {
                        "weight_map": {
                            name: file.replace("model", "pytorch_model").replace(".safetensors", ".bin")
                            for name, file in places.items()
                        }
                    }
                )
            )


def load(folder: Path, dtype: str) -> XComp:
    with torch.device("meta"):
        model = XComp(read_model_config(folder, ModelConfig(dtype=dtype)))
    fill(model, open_checkpoint(folder), getattr(torch, dtype), "cpu")
    return model


def resident(key: str) -> int:
    """Bytes of this process: VmRSS now, VmHWM at most."""
    return 1024 * int(Path("/proc/self/status").read_text().split(f"{key}:")[1].split()[0])


def measure(folder: Path, dtype: str) -> dict[str, float]:
    """Load in this process: bytes of the model, bytes at the peak, seconds."""
    load(folder.with_name("warm"), dtype)
    gc.collect()
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak is what is resident from here on
    began = time.perf_counter()
    model = load(folder, dtype)
    seconds = time.perf_counter() - began
    size = sum(weight.nbytes for weight in model.parameters())
    return {"model": size, "peak": resident("VmHWM") - before, "seconds": seconds}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.checkpoint", description=__doc__)
    parser.add_argument("--load", nargs=2, metavar=("FOLDER", "DTYPE"), help="measure one load in this process")
    options = parser.parse_args(arguments)
    if options.load:
        print(json.dumps(measure(Path(options.load[0]), options.load[1])))
        return 0
    worst = 0.0
    with tempfile.TemporaryDirectory(prefix="checkpoint-") as root:
        write(Path(root))
        for form, dtype in CASES:
            command = [sys.executable, "-m", "benchmarks.checkpoint", "--load", f"{root}/{form}", dtype]
            found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
            ratio = found["peak"] / found["model"]
            sizes = f"model {found['model'] / 1e6:.0f} MB, peak {found['peak'] / 1e6:.0f} MB"
            print(f"{form}, float32 to {dtype}: {sizes}, ratio {ratio:.3f}, {found['seconds']:.1f} s", flush=True)
            worst = max(worst, ratio)
    print(f"checkpoint_memory {worst:.3f} target <={TARGET} {'ok' if worst <= TARGET else 'short'}")
    return 0 if worst <= TARGET else 1


if __name__ == "__main__":
    sys.exit(main())
