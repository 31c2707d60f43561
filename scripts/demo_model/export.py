"""From training weights to a checkpoint folder in the published layout, as the ordinary loader reads it."""

import json
import shutil
from pathlib import Path

import torch
import yaml
from safetensors.torch import save_file

from dialogue import understood
from learner import LM_CONFIG, TOWER_CONFIG
from vocabulary import TOKEN_IDS

TOWER_FILE = "audiointeraction_ChunkwisedEncoder.safetensors"
LM_FILE = "model.safetensors"


def export(weights: dict[str, torch.Tensor], vocabulary: Path, out: Path) -> None:
    """Write `out` from a network's weights and the folder of the vocabulary; bfloat16 throughout."""
    part = {prefix: _part(weights, prefix) for prefix in ("tower.", "lm.")}
    (out / "qwen25OmniConfig").mkdir(parents=True, exist_ok=True)
    for file, tensors in ((TOWER_FILE, part["tower."]), (LM_FILE, part["lm."])):
        save_file(tensors, out / file)
        (out / file).chmod(0o644)  # as all other files of a package
    size = sum(tensor.numel() * tensor.element_size() for tensor in part["lm."].values())
    index = {"metadata": {"total_size": size}, "weight_map": dict.fromkeys(sorted(part["lm."]), LM_FILE)}
    _write_json(out / "model.safetensors.index.json", index)
    (out / "model_config.yaml").write_text(yaml.safe_dump(LM_CONFIG, sort_keys=False))
    _write_json(out / "qwen25OmniConfig" / "config.json", {"thinker_config": {"audio_config": TOWER_CONFIG}})
    _write_json(out / "config.json", {"model_type": "audio-interaction-demo"})
    _write_json(out / "generation_config.json", {"do_sample": False, "eos_token_id": TOKEN_IDS.text_end})
    _write_json(out / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast"})
    _write_json(out / "understands.json", understood())
    for name in ("tokenizer.json", "protocol.json"):
        shutil.copy(vocabulary / name, out / name)


def _part(weights: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {
        name.removeprefix(prefix): tensor.to(torch.bfloat16).contiguous()
        for name, tensor in weights.items()
        if name.startswith(prefix)
    }


def _write_json(file: Path, value: object) -> None:
    file.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n")
