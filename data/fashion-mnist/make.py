#!/usr/bin/env python3
"""Makes this folder's share of Fashion-MNIST from the whole data set.

    python3 make.py /usr/share/datasets/fashion-mnist .

Keeps the first images of each class, in their original order: 1,200 of each of
the 10 classes for training, 200 for testing. The output depends on nothing but
the input and the zlib in use: the gzip headers carry no name and no time.
"""

import gzip
import struct
import sys
from pathlib import Path

SHARES = {"train": 1200, "t10k": 200}
CLASSES = 10
IMAGES_MAGIC = 0x803
LABELS_MAGIC = 0x801


def read(source: Path, part: str) -> tuple[int, int, bytes, bytes]:
    images = gzip.decompress((source / f"{part}-images-idx3-ubyte.gz").read_bytes())
    labels = gzip.decompress((source / f"{part}-labels-idx1-ubyte.gz").read_bytes())
    magic, count, height, width = struct.unpack(">IIII", images[:16])
    assert (magic, len(images)) == (IMAGES_MAGIC, 16 + count * height * width)
    assert struct.unpack(">II", labels[:8]) == (LABELS_MAGIC, count)
    return height, width, images[16:], labels[8:]


def write(path: Path, magic: int, sizes: list[int], body: bytes) -> None:
    header = struct.pack(f">{1 + len(sizes)}I", magic, *sizes)
    path.write_bytes(gzip.compress(header + body, compresslevel=9, mtime=0))


def main(source: Path, target: Path) -> None:
    for part, per_class in SHARES.items():
        height, width, images, labels = read(source, part)
        size = height * width
        left = [per_class] * CLASSES
        kept = []
        for index, label in enumerate(labels):
            if left[label] > 0:
                left[label] -= 1
                kept.append(index)
        assert not any(left), f"{part}: a class has fewer than {per_class} images"
        body = b"".join(images[i * size : (i + 1) * size] for i in kept)
        write(target / f"{part}-images-idx3-ubyte.gz", IMAGES_MAGIC, [len(kept), height, width], body)
        write(target / f"{part}-labels-idx1-ubyte.gz", LABELS_MAGIC, [len(kept)], bytes(labels[i] for i in kept))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
