"""Memory and decoding speed with many images: what grows with their number, and what does not.

    python benchmarks/image_memory.py --small 5000 --large 50000

Makes JPEG images of coloured noise, 64 pixels wide, in a temporary folder, and measures in a fresh process each

- the peak resident memory of reading them (:func:`fimp.data.image_graph.read_images`, nothing decoded before), and of
  four training steps and the validation of a model, for both numbers of images;
- images decoded per second by one thread, by the thread pool of ``fimp.data.images`` and by processes, for images of
  three sizes;
- the time that :func:`fimp.data.pixels.colours` takes.

Prints tables of ratios. Times depend on what else the machine does; memory hardly. The folder, and with it the cache of
decoded images, is removed at the end.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

MODELS = ("sage", "fimp-base")
#: Side of the images that models see, and sides of those whose decoding is timed, in pixels.
SIDE, SIDES = 64, (64, 256, 768)
STEPS, BATCH = 4, 64


def make_images(folder: Path, count: int, side: int) -> list[str]:
    """Write ``count`` JPEG images ``0.jpg``, ... of coloured noise, ``side`` pixels wide; returns their names."""
    from PIL import Image

    generator = np.random.default_rng(0)
    folder.mkdir()
    names = [f"{row}.jpg" for row in range(count)]
    for name in names:
        noise = generator.integers(0, 256, (side // 8, side // 8, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((side, side), Image.Resampling.BICUBIC).save(folder / name, quality=85)
    return names


def make_table(path: Path, names: list[str]) -> None:
    """List images at random places, about twelve within ten miles of each, with one of three labels."""
    generator = np.random.default_rng(1)
    side = np.sqrt(len(names) * np.pi * 100.0 / 12.0) / 69.1
    where = generator.uniform(0.0, side, (len(names), 2))
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "latitude", "longitude", "label"])
        for row, (name, (latitude, longitude)) in enumerate(zip(names, where, strict=True)):
            writer.writerow([f"images/{name}", f"{latitude:.6f}", f"{longitude:.6f}", row % 3])


def measure_memory(table: str, what: str) -> dict[str, float]:
    """Peak resident memory in MB before (imports alone), of reading, and of a model with it; and seconds."""
    from fimp.data.image_graph import ImageOptions, read_images
    from fimp.models.registry import resolve
    from fimp.tasks.image import ImageTask
    from fimp.train.fit import fit
    from fimp.train.options import TrainOptions
    from fimp.train.peak_memory import peak_memory_mb, reset_peak_memory

    reset_peak_memory()
    found = {"imports": peak_memory_mb()}
    begun = time.monotonic()
    data = read_images(table, ImageOptions(image_size=SIDE))
    found["graph"] = sum(value.numel() * value.element_size() for _, value in data if hasattr(value, "numel")) / 2**20
    if what != "reading":
        task = ImageTask(data)
        fit(task, resolve(what), TrainOptions(batch_size=BATCH, device="cpu"), stop_after=STEPS)
    return {**found, "peak": peak_memory_mb(), "seconds": time.monotonic() - begun}


def measure_speed(folder: str) -> dict[str, float]:
    """Images decoded per second by one thread, by the library, and by two processes.

    The best of five rounds, since others on the machine can only slow things down.
    """
    from fimp.data.images import decode, decode_all

    paths = sorted(Path(folder).glob("*.jpg"))
    one = partial(decode, size=SIDE)
    with ProcessPoolExecutor(2) as pool:
        list(pool.map(one, paths[:8]))  # starting workers is not decoding
        ways: dict[str, Callable[[], object]] = {
            "one thread": lambda: [one(path) for path in paths],
            "the library's threads": lambda: list(decode_all(paths, SIDE)),
            "2 processes": lambda: list(pool.map(one, paths, chunksize=16)),
        }
        best = dict.fromkeys(ways, 0.0)
        for _ in range(5):
            for name, work in ways.items():
                begun = time.monotonic()
                work()
                best[name] = max(best[name], len(paths) / (time.monotonic() - begun))
    return best


def measure_colours(table: str) -> dict[str, float]:
    """Seconds that the colours of the images of a table take, and how many images there are."""
    from fimp.data.image_graph import ImageOptions, read_images
    from fimp.data.pixels import colours

    pixels = read_images(table, ImageOptions(image_size=SIDE)).pixels
    begun = time.monotonic()
    colours(pixels, np.arange(len(pixels)))
    return {"images": len(pixels), "seconds": time.monotonic() - begun}


MEASURES = {"memory": measure_memory, "speed": measure_speed, "colours": measure_colours}


def fresh(folder: Path, measure: str, *arguments: object) -> dict[str, float]:
    """What a measure finds in a process of its own, with a cache within the folder."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache")}
    command = [sys.executable, __file__, "--measure", measure, *map(str, arguments)]
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def show(*cells: object) -> None:
    """Write a row of a table."""
    texts = [f"{cell:,.2f}" if isinstance(cell, float) else str(cell) for cell in cells]
    sys.stdout.write("| " + " | ".join(texts) + " |\n")
    sys.stdout.flush()


def compare_memory(folder: Path, counts: tuple[int, int]) -> None:
    """Print peak memory for both numbers of images, their ratio, and what an image more costs."""
    small, large = counts
    show("peak memory, MB", "imports", f"{small:,} images", f"{large:,} images", "ratio", "KB per image more", "s")
    show(*["---"] * 7)
    for what in ("reading", *MODELS):
        a, b = (fresh(folder, "memory", folder / f"{count}.csv", what) for count in counts)
        more = (b["peak"] - a["peak"]) * 1024 / (large - small)
        show(what, b["imports"], a["peak"], b["peak"], b["peak"] / a["peak"], more, b["seconds"])
    graph = (b["graph"] - a["graph"]) * 1024 / (large - small)
    pixels = SIDE * SIDE * 3 / 1024
    sys.stdout.write(f"\nAn image's part of the graph: {graph:.2f} KB of tensors. Its pixels: {pixels:.2f} KB.\n\n")


def compare_speed(folder: Path) -> None:
    """Print decoding speeds, and their ratio to that of one thread."""
    show("decoding", "by", "images/s", "ratio to one thread")
    show(*["---"] * 4)
    for side in SIDES:
        found = fresh(folder, "speed", folder / f"speed{side}")
        for way, speed in found.items():
            show(f"{side} pixels", way, speed, speed / found["one thread"])
    sys.stdout.write("\n")


def main() -> None:
    """Make images, measure, print, clean up."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", type=int, default=5_000)
    parser.add_argument("--large", type=int, default=50_000)
    parser.add_argument("--measure", nargs="+", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.measure:
        name, *arguments = chosen.measure
        sys.stdout.write(json.dumps(MEASURES[name](*arguments)) + "\n")
        return
    with tempfile.TemporaryDirectory(prefix="fimp-benchmark-") as temporary:
        folder = Path(temporary)
        names = make_images(folder / "images", chosen.large, SIDE)
        for count in (chosen.small, chosen.large):
            make_table(folder / f"{count}.csv", names[:count])
        compare_memory(folder, (chosen.small, chosen.large))
        for side in SIDES:
            make_images(folder / f"speed{side}", 64_000 // side, side)
        compare_speed(folder)
        found = fresh(folder, "colours", folder / f"{chosen.large}.csv")
        sys.stdout.write(f"colours of {found['images']:,} images: {found['seconds']:.2f} s\n")


if __name__ == "__main__":
    main()
