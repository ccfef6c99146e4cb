"""Loads exports with transformers and peft and compares their outputs with ours.

Called by the test `transformers_and_peft_read_exports_and_compute_the_same` with the folder that it
wrote; prints a line for each model and fails at the first difference.
"""

import json
import sys
from pathlib import Path

import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModel, AutoModelForCausalLM

TOLERANCE = 1e-4


def outputs(model, ids, classifier):
    """Logits, or an encoder's vectors and logits."""
    with torch.no_grad():
        if classifier is None:
            return {"logits": model(ids).logits.flatten(0, 1)}
        vectors = model(ids).last_hidden_state.mean(1)
        head = load_file(classifier)
        logits = vectors @ head["classifier.weight"].T + head["classifier.bias"]
        return {"vectors": vectors, "logits": logits}


def difference(got, expected):
    return max(float((got[name] - expected[name]).abs().max()) for name in got)


def main():
    for folder in sorted(Path(sys.argv[1]).iterdir()):
        expected = load_file(folder / "outputs.safetensors")
        ids = expected["ids"].long()
        encoder = json.loads((folder / "whole/config.json").read_text())["model_type"] == "bert"
        kind = AutoModel if encoder else AutoModelForCausalLM
        head = "classifier.safetensors" if encoder else None

        model = kind.from_pretrained(folder / "whole").eval()
        whole = difference(outputs(model, ids, head and folder / "whole" / head), expected)
        assert whole < TOLERANCE, f"{folder.name}: the whole model differs by {whole}"
        line = f"{folder.name}: whole {whole:.1e}"

        adapter = folder / "adapter"
        # A quantized base has other weights in Python: the merged model stands for it.
        if adapter.exists() and folder.name != "gguf":
            base = json.loads((adapter / "adapter_config.json").read_text())["base_model_name_or_path"]
            model = PeftModel.from_pretrained(kind.from_pretrained(base, dtype=torch.float32), adapter).eval()
            alone = difference(outputs(model, ids, head and adapter / head), expected)
            assert alone < TOLERANCE, f"{folder.name}: the adapter differs by {alone}"
            line += f", adapter {alone:.1e}"
        print(line)


if __name__ == "__main__":
    main()
