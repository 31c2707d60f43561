"""Every variant of the published layout loads to the same weights; every broken one says what is wrong."""

import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from audio_interaction_cli import checkpoint
from audio_interaction_cli.abilities import multiplies_bfloat16
from audio_interaction_cli.engine import Engine, choose_dtype
from audio_interaction_cli.errors import CheckpointError, OutOfMemoryError, UsageError
from audio_interaction_cli.lm import _rows_from_interleaved
from audio_interaction_cli.memory import enough_memory
from audio_interaction_cli.shape import LmConfig
from tests.conftest import GOLDEN

CPU = torch.device("cpu")
TOWER = "MiniOmni3_ChunkwisedEncoder.pth"
INDEX = "model.safetensors.index.json"
SHARD = "model-00001-of-00002.safetensors"
QKV = "transformer.h.1.attn.qkv.weight"


def load(folder: Path, **options: Any) -> Engine:
    return Engine.load(checkpoint.read(folder, "test"), device="cpu", **{"dtype": "float32", **options})


def weights(engine: Engine) -> dict[str, torch.Tensor]:
    return {**engine.tower.state_dict(), **engine.lm.state_dict()}


def assert_equal_weights(got: Engine, expected: Engine) -> None:
    torch.testing.assert_close(weights(got), weights(expected), atol=0, rtol=0)


@pytest.fixture(scope="module")
def original(make_checkpoint: Callable[..., Path]) -> Path:
    return make_checkpoint("--seed", "1", "--silence-bias=0")


@pytest.fixture
def copy(original: Path, tmp_path: Path) -> Path:
    """A copy that a test may change; big files are shared with the original, so replace, never write into."""
    folder = tmp_path / "copy"
    shutil.copytree(original, folder, copy_function=os.link)
    return folder


def replace(file: Path, content: bytes) -> None:
    file.unlink()
    file.write_bytes(content)


def edit_config(folder: Path, **changes: object) -> None:
    file = folder / "model_config.yaml"
    config = yaml.safe_load(file.read_text())
    replace(file, yaml.safe_dump({**config, **changes}).encode())


def merged(folder: Path) -> dict[str, torch.Tensor]:
    """All tensors of the language model, and their files removed."""
    tensors: dict[str, torch.Tensor] = {}
    for file in folder.glob("model-*.safetensors"):
        tensors |= load_file(file)
        file.unlink()
    (folder / INDEX).unlink()
    return tensors


# --- variants


def test_one_file_without_an_index(copy: Path, engine: Engine) -> None:
    save_file(merged(copy), copy / "model.safetensors")
    assert_equal_weights(load(copy), engine)


def test_five_shards_and_no_index(copy: Path, engine: Engine) -> None:
    tensors = list(merged(copy).items())
    for n in range(5):
        save_file(dict(tensors[n::5]), copy / f"model-{n + 1:05d}-of-00005.safetensors")
    assert_equal_weights(load(copy), engine)


def test_legacy_interleaved_attention(copy: Path, engine: Engine) -> None:
    tensors = merged(copy)
    rows = _rows_from_interleaved(LmConfig.read(yaml.safe_load((copy / "model_config.yaml").read_text())))
    for name in [name for name in tensors if ".attn.qkv." in name]:
        legacy = torch.empty_like(tensors[name])
        legacy[rows] = tensors.pop(name)
        tensors[name.replace(".attn.qkv.", ".attn.attn.")] = legacy
    save_file(tensors, copy / "model.safetensors")
    assert_equal_weights(load(copy), engine)


def test_the_other_names_of_tower_and_configuration(copy: Path, engine: Engine) -> None:
    (copy / TOWER).rename(copy / "audiointeraction_ChunkwisedEncoder.pth")
    (copy / "qwen25OmniConfig").rename(copy / "qwen_2_5_omni_config")
    assert_equal_weights(load(copy), engine)


def test_tower_as_safetensors_is_preferred(copy: Path, engine: Engine) -> None:
    state = torch.load(copy / TOWER, weights_only=True)
    save_file(state, (copy / TOWER).with_suffix(".safetensors"))
    replace(copy / TOWER, b"never read")
    assert_equal_weights(load(copy), engine)


def test_tower_in_the_old_format_of_torch(copy: Path, engine: Engine) -> None:
    state = torch.load(copy / TOWER, weights_only=True)
    (copy / TOWER).unlink()
    torch.save(state, copy / TOWER, _use_new_zipfile_serialization=False)
    assert_equal_weights(load(copy), engine)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_any_number_format_in_the_files(make_checkpoint: Callable[..., Path], dtype: str) -> None:
    folder = make_checkpoint("--seed", "1", "--silence-bias=0", "--dtype", dtype, "--shards", "3")
    files = {name: tensor for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()}
    files |= torch.load(folder / TOWER, weights_only=True)
    for name, tensor in weights(load(folder)).items():
        assert files[name].dtype is getattr(torch, dtype)
        torch.testing.assert_close(tensor, files[name].float(), atol=0, rtol=0)


def test_auto_dtype_is_exact_for_a_small_model(copy: Path) -> None:
    assert load(copy, dtype="auto").dtype is torch.float32


def test_foreign_tensors_beside_the_model_are_left_alone(copy: Path, engine: Engine) -> None:
    save_file({**merged(copy), "adapter.weight": torch.zeros(3)}, copy / "model.safetensors")
    assert_equal_weights(load(copy), engine)


# --- broken ones


def cut_in_half(file: Path) -> None:
    replace(file, file.read_bytes()[: file.stat().st_size // 2])


class _Bomb:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return (Path.touch, (self.target,))


def rename_tensor(folder: Path) -> None:
    tensors = merged(folder)
    tensors["transformer.h.1.attn.kqv.weight"] = tensors.pop(QKV)
    save_file(tensors, folder / "model.safetensors")


def reshape_tensor(folder: Path) -> None:
    tensors = merged(folder)
    tensors[QKV] = tensors[QKV][:, :-1].contiguous()
    save_file(tensors, folder / "model.safetensors")


def add_tensor(folder: Path) -> None:
    save_file({**merged(folder), "lm_head.bias": torch.zeros(4)}, folder / "model.safetensors")


def integers(folder: Path) -> None:
    tensors = merged(folder)
    name = "transformer.h.0.norm_1.weight"
    save_file({**tensors, name: tensors[name].to(torch.int8)}, folder / "model.safetensors")


def edit_tower_config(folder: Path, **changes: object) -> None:
    file = folder / "qwen25OmniConfig" / "config.json"
    config = json.loads(file.read_text())
    config["thinker_config"]["audio_config"] |= changes
    replace(file, json.dumps(config).encode())


def edit_tower(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    state = torch.load(folder / TOWER, weights_only=True)
    changed = change(state)
    (folder / TOWER).unlink()
    torch.save(changed, folder / TOWER)


def leave_out(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def write(name: str, text: str) -> Callable[[Path], None]:
    return lambda folder: replace(folder / name, text.encode())


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing shard": (leave_out(SHARD), f"{SHARD} is missing"),
    "cut shard": (lambda folder: cut_in_half(folder / SHARD), f"{SHARD}.* damaged or cut off"),
    "empty shard": (write(SHARD, ""), f"{SHARD}.* damaged or cut off"),
    "shard of text": (write(SHARD, "<html>not found</html>"), f"{SHARD}.* damaged or cut off"),
    "no weights": (merged, "model.safetensors is missing"),
    "renamed tensor": (rename_tensor, r"lacks transformer\.h\.1\.attn\.qkv\.weight; it has .*\.kqv"),
    "wrong shape": (reshape_tensor, r"attn\.qkv\.weight has shape \[160, 95\].*\[160, 96\]"),
    "more than the model has": (add_tensor, r"lm_head\.bias.* no place"),
    "broken index": (write(INDEX, '{"weight_map": '), "index.json.* damaged"),
    "index of another kind": (write(INDEX, '{"weight_map": ["a"]}'), "weight_map"),
    "index that leaves the folder": (write(INDEX, '{"weight_map": {"a": "../a.safetensors"}}'), "outside"),
    "no configuration": (leave_out("model_config.yaml"), "model_config.yaml is missing"),
    "broken yaml": (write("model_config.yaml", "n_layer: [1, 2"), "model_config.yaml.* damaged"),
    "yaml list": (write("model_config.yaml", "- 1"), "model_config.yaml is not a table"),
    "yaml with an object": (write("model_config.yaml", "!!python/object/apply:os.getcwd []"), "damaged"),
    "yaml that is no text": (write("model_config.yaml", "\x00\x01"), "model_config.yaml.* damaged"),
    "not implemented": (lambda folder: edit_config(folder, norm_class_name="LayerNorm"), "LayerNorm.* not implemented"),
    "other layer count": (lambda folder: edit_config(folder, n_layer=4), r"lacks transformer\.h\.3\."),
    "small vocabulary": (lambda folder: edit_config(folder, padded_vocab_size=1000), "no room"),
    "no tokenizer": (leave_out("tokenizer.json"), "tokenizer.json is missing"),
    "broken tokenizer": (write("tokenizer.json", "{}"), "tokenizer.json.* damaged"),
    "no tower": (leave_out(TOWER), "ChunkwisedEncoder.pth is missing"),
    "two towers": (lambda folder: shutil.copy(folder / TOWER, folder / "b_ChunkwisedEncoder.pth"), "several"),
    "cut tower": (lambda folder: cut_in_half(folder / TOWER), f"{TOWER}.* damaged or cut off"),
    "tower of text": (write(TOWER, "hello"), TOWER),
    "tower that is a list": (lambda folder: edit_tower(folder, lambda state: list(state.values())), "not a state dict"),
    "tower without a layer": (
        lambda folder: edit_tower(folder, lambda s: {k: v for k, v in s.items() if "layers.1" not in k}),
        r"lacks layers\.1\.",
    ),
    "tower of another shape": (
        lambda folder: edit_tower(folder, lambda s: {**s, "ln_post.bias": torch.zeros(7)}),
        r"ln_post\.bias has shape \[7\]",
    ),
    "numbers that are not floating": (integers, r"norm_1\.weight is I8, not floating-point"),
    "tower of integers": (
        lambda folder: edit_tower(folder, lambda s: {**s, "ln_post.bias": torch.zeros(48, dtype=torch.int8)}),
        r"ln_post\.bias is torch\.int8",
    ),
    "tower with a number for a name": (
        lambda folder: edit_tower(folder, lambda s: dict([*s.items(), (5, torch.zeros(1))])),
        "state dict",
    ),
    "tower of sparse tensors": (
        lambda folder: edit_tower(folder, lambda s: {**s, "ln_post.bias": torch.zeros(48).to_sparse()}),
        TOWER,
    ),
    "a million layers": (lambda folder: edit_config(folder, n_layer=1_000_000), "n_layer"),
    "tower without heads": (lambda folder: edit_tower_config(folder, encoder_attention_heads=0), "make no sense"),
    "tower of a million layers": (lambda folder: edit_tower_config(folder, encoder_layers=1_000_000), "make no sense"),
    "no tower configuration": (lambda folder: shutil.rmtree(folder / "qwen25OmniConfig"), "config.json is missing"),
    "other tower configuration": (
        lambda folder: replace(folder / "qwen25OmniConfig" / "config.json", b'{"thinker_config": {}}'),
        "audio_config",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_broken(case: str, copy: Path) -> None:
    break_it, message = BROKEN[case]
    break_it(copy)
    with pytest.raises(CheckpointError, match=message) as caught:
        load(copy)
    assert "\n" not in caught.value.message
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("protocol", [2, 4])
def test_code_in_a_pickle_never_runs(copy: Path, tmp_path: Path, protocol: int) -> None:
    target = tmp_path / "was run"
    for content in (torch_saved({"a": _Bomb(target)}, tmp_path), pickle.dumps(_Bomb(target), protocol)):
        replace(copy / TOWER, content)
        with pytest.raises(CheckpointError, match=TOWER):
            load(copy)
        assert not target.exists()


def torch_saved(value: object, folder: Path) -> bytes:
    torch.save(value, folder / "saved")
    return (folder / "saved").read_bytes()


# --- finding one


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder as the working one, and an empty hub cache."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path


def cached(original: Path, hub: Path, name: str) -> None:
    """The checkpoint as the hub's library would have left it in its cache."""
    folder = hub / f"models--{name.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("0123456789abcdef0123456789abcdef01234567")
    shutil.copytree(original, folder / "snapshots" / "0123456789abcdef0123456789abcdef01234567", copy_function=os.link)


def test_what_is_named_is_never_replaced(nowhere: Path, original: Path) -> None:
    shutil.copytree(original, nowhere / "checkpoints", copy_function=os.link)
    for name in (
        "nowhere",
        "./a/b",
        "~nobody-of-this-name/x",
        "x" * 300,
        "zhifeixie/Not-Downloaded",
        "checkpoints/tokenizer.json",
    ):
        with pytest.raises(CheckpointError):
            checkpoint.find(name)
    (nowhere / "checkpoints" / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match=r"tokenizer\.json is missing"):
        checkpoint.find("checkpoints")


def test_order_of_search(nowhere: Path, original: Path, demo_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "DEMO_FOLDER", nowhere / "not-installed")
    for named in (None, "demo"):
        with pytest.raises(CheckpointError, match="demo is missing from this installation") as caught:
            checkpoint.find(named)
        assert "ai-cli download" in (caught.value.hint or "")
    monkeypatch.setattr(checkpoint, "DEMO_FOLDER", demo_folder)
    assert checkpoint.find(None).name == checkpoint.find("demo").name == "demo"
    cached(original, nowhere / "hub", checkpoint.HUB_IDS[1])
    assert checkpoint.find(None).name == checkpoint.HUB_IDS[1]
    cached(original, nowhere / "hub", checkpoint.HUB_IDS[0])
    assert checkpoint.find(None).name == checkpoint.HUB_IDS[0]
    (nowhere / "checkpoints").mkdir()
    assert checkpoint.find(None).name == checkpoint.HUB_IDS[0]  # a folder of another kind is no checkpoint
    shutil.copytree(original, nowhere / "checkpoints", copy_function=os.link, dirs_exist_ok=True)
    assert checkpoint.find(None).name == "checkpoints"
    assert checkpoint.find(checkpoint.HUB_IDS[1]).name == checkpoint.HUB_IDS[1]
    shutil.copytree(original, nowhere / "demo", copy_function=os.link)
    assert checkpoint.find("demo").folder == demo_folder
    assert checkpoint.find("./demo").folder == Path("demo")


def test_a_folder_that_is_not_fetched_to_its_end_is_told(nowhere: Path) -> None:
    (nowhere / "checkpoints").mkdir()
    assert checkpoint.unfinished() is None
    (nowhere / "checkpoints" / ".cache" / "huggingface").mkdir(parents=True)
    assert checkpoint.find(None).name == "demo"
    assert checkpoint.unfinished() == ("checkpoints", "ai-cli download --local-dir checkpoints")


def test_devices_and_dtypes_that_are_not_there(original: Path) -> None:
    wrong: list[dict[str, Any]] = [
        {"device": "tpu"},
        {"device": "cuda:x"},
        {"device": "cpu:1"},
        {"device": "cpu:"},
        {"device": "cuda:"},
        {"dtype": "int3"},
    ]
    for options in wrong:
        with pytest.raises(UsageError):
            Engine.load(checkpoint.read(original, "test"), **options)
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match="not available"):
            Engine.load(checkpoint.read(original, "test"), device="cuda")


def test_too_little_memory_is_explained(original: Path) -> None:
    petabyte = 2**50
    with pytest.raises(OutOfMemoryError, match="not enough memory on cpu: 1125899"), enough_memory(petabyte, CPU):
        torch.empty(petabyte, dtype=torch.uint8)
    with pytest.raises(RuntimeError, match="something else"), enough_memory(1, CPU):
        raise RuntimeError("something else")
    assert OutOfMemoryError.exit_code == 3
    assert original.exists()


def test_auto_dtype(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = torch.device("cuda:1")
    monkeypatch.setattr("torch.version.cuda", "13.0")
    for capability, expected in (((7, 5), torch.float16), ((8, 0), torch.bfloat16), ((9, 0), torch.bfloat16)):
        monkeypatch.setattr(
            "torch.cuda.get_device_capability", lambda device, c=capability: c if device == cuda else None
        )
        assert choose_dtype("auto", cuda, 10**9) is expected
    assert choose_dtype("auto", CPU, 10**7) is torch.float32
    assert choose_dtype("auto", CPU, 10**9) is (torch.bfloat16 if multiplies_bfloat16(CPU) else torch.float32)


def test_loading_tells_its_progress(original: Path) -> None:
    seen: list[tuple[int, int]] = []
    engine = load(original, progress=lambda done, total: seen.append((done, total)))
    total = sum(tensor.nbytes for tensor in weights(engine).values())
    assert seen == sorted(seen)
    assert seen[-1] == (total, total)


PEAK = """
import sys
from audio_interaction_cli import checkpoint
from audio_interaction_cli.conversation import peak_memory_bytes
from audio_interaction_cli.engine import Engine
engine = Engine.load(checkpoint.read(checkpoint.Path(sys.argv[1]), "big"), device="cpu", dtype=sys.argv[2],
                     quantize=sys.argv[3])
print(engine.weight_bytes, peak_memory_bytes())
"""


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "quantize"), [("float32", "none"), ("bfloat16", "none"), ("bfloat16", "int8")])
def test_peak_memory_of_loading(tmp_path: Path, dtype: str, quantize: str) -> None:
    """A float32 checkpoint of 2.9 GB: at most the weights in use and 1.5 GB.

    Packed matrices of 96 rows are filled up to 128, a ninth of all; those of the full model fit without.
    """
    script = [
        sys.executable,
        str(GOLDEN / "make_checkpoint.py"),
        str(tmp_path),
        "--tokenizer",
        str(GOLDEN / "tokenizer"),
    ]
    subprocess.run(script, check=True)
    tensors = merged(tmp_path)
    for n in range(60):  # layers wide enough for the weights to outweigh the interpreter
        tensors |= {f"transformer.h.{n}.{name}.weight": torch.zeros(shape) for name, shape in {
            "mlp.fc_1": (40_000, 96), "mlp.fc_2": (40_000, 96), "mlp.proj": (96, 40_000), "attn.proj": (96, 96),
            "attn.qkv": (160, 96), "norm_1": (96,), "norm_2": (96,)}.items()}  # fmt: skip
        tensors[f"transformer.h.{n}.attn.qkv.bias"] = torch.zeros(160)
    save_file(tensors, tmp_path / "model.safetensors")
    edit_config(tmp_path, n_layer=60, intermediate_size=40_000)
    command = [sys.executable, "-c", PEAK, str(tmp_path), dtype, quantize]
    used, peak = map(int, subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())
    assert used > 0.7e9
    assert peak <= 10 / 9 * used + 1.5e9


def test_index_lists_are_not_trusted_for_shapes(copy: Path, engine: Engine) -> None:
    index = json.loads((copy / INDEX).read_text())
    index["weight_map"] = dict.fromkeys(index["weight_map"], SHARD) | {
        "lm_head.weight": "model-00002-of-00002.safetensors"
    }
    replace(copy / INDEX, json.dumps(index).encode())
    assert_equal_weights(load(copy), engine)
