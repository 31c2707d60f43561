"""Finds a checkpoint folder and reads what it says of itself: configurations, token ids and tensor headers.

Knows the published layout in all its variants, and the small demo checkpoint that comes with the package. Reads no
weights and imports no torch; every problem is a `CheckpointError`.
"""

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from reprlib import repr as brief  # a value of a damaged file can be of any size
from typing import Any

from safetensors import SafetensorError, safe_open

from audio_interaction_cli.errors import CheckpointError
from audio_interaction_cli.protocol import PUBLISHED_TOKEN_IDS, SYSTEM_PROMPT, TokenIds
from audio_interaction_cli.tables import DOWNLOAD as DOWNLOAD
from audio_interaction_cli.tables import damaged, mapping, parse_json, parse_yaml

HUB_IDS = ("zhifeixie/Audio-Interaction", "zhifeixie/AudioInteraction", "zhifeixie/AudioInteraction-2M")
LOCAL_FOLDER = Path("checkpoints")
DEMO = "demo"
DEMO_FOLDER = Path(__file__).parent / "demo"

LM_CONFIG = "model_config.yaml"
LM_INDEX = "model.safetensors.index.json"
TOKENIZER = "tokenizer.json"
TOWER_CONFIGS = ("qwen25OmniConfig/config.json", "qwen_2_5_omni_config/config.json")
TOWER_WEIGHTS = "*ChunkwisedEncoder"
QUANTIZATION = "quantization.json"  # of checkpoints whose linear layers are whole numbers
INT8_FORMAT = "int8-rotated-1"  # as `linear.Int8Linear` has them
PROTOCOL = "protocol.json"  # token ids and prompt, of checkpoints that have their own
UNDERSTANDS = "understands.json"  # of checkpoints that know but a closed set


@dataclass(frozen=True, slots=True)
class TensorHeader:
    """Where a tensor lies and what it is, without its numbers."""

    file: Path
    shape: tuple[int, ...]
    dtype: str
    """As safetensors calls it: F32, BF16, I8 …"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A checkpoint folder whose files are all there and readable as far as their headers go."""

    name: str
    folder: Path
    lm_config: Mapping[str, Any]
    """Fields of model_config.yaml, by LitGPT's names."""
    lm_tensors: Mapping[str, TensorHeader]
    tower_config: Mapping[str, Any]
    """`thinker_config.audio_config` of the nested configuration."""
    tower_weights: Path
    tokenizer: Path
    token_ids: TokenIds
    system_prompt: str
    int8: bool = False
    """Whether the linear layers are stored quantized."""


def find(named: str | None) -> Checkpoint:
    """The checkpoint that was named, else the first one found: ./checkpoints, the hub cache, the built-in demo.

    `named` is a folder, the id of a hub repository downloaded before, or "demo" (a folder of that name is
    ./demo). A named checkpoint is never replaced by another. CheckpointError if the one found is not usable.
    """
    if named is not None:
        return read(folder_of(named), named)
    if os.path.exists(LOCAL_FOLDER / LM_CONFIG):
        return read(LOCAL_FOLDER, str(LOCAL_FOLDER))
    for hub_id in HUB_IDS:
        folder = None
        with suppress(CheckpointError):  # what is not complete may still be on its way
            folder = _cached_folder(hub_id)
        if folder:
            return read(folder, hub_id)
    return read(_demo_folder(), DEMO)


def samples() -> Path:
    """The folder of recordings that come with the built-in demo."""
    return _demo_folder() / "samples"


def name_of(folder: Path) -> str:
    """What names a folder on the command line: its path, which for one called demo must look like one."""
    return os.path.join(os.curdir, DEMO) if str(folder) == DEMO else str(folder)


def unfinished() -> tuple[str, str] | None:
    """What was begun to be downloaded to where it would be found, and the command that goes on; None if there is no
    such."""
    if os.path.isdir(LOCAL_FOLDER / ".cache" / "huggingface") and not os.path.exists(LOCAL_FOLDER / LM_CONFIG):
        return str(LOCAL_FOLDER), f"{DOWNLOAD} --local-dir {LOCAL_FOLDER}"
    for hub_id in HUB_IDS:
        try:
            _cached_folder(hub_id)
        except CheckpointError:
            return hub_id, f"{DOWNLOAD} {hub_id}"
    return None


def folder_of(named: str) -> Path:
    """The folder that a name stands for; CheckpointError if there is none."""
    return _demo_folder() if named == DEMO else _named_folder(named)


def _demo_folder() -> Path:
    if not os.path.isdir(DEMO_FOLDER):
        raise CheckpointError(
            "the built-in demo is missing from this installation",
            f"name a checkpoint with --checkpoint, or fetch the real one: {DOWNLOAD}",
        )
    return DEMO_FOLDER


def _named_folder(named: str) -> Path:
    # os.path here and below: it is false where Path raises, for want of permission or for long names
    folder = Path(os.path.expanduser(named))
    if os.path.isdir(folder):
        return folder
    if os.path.exists(folder):
        raise CheckpointError(f"{named} is a file, not a checkpoint folder", "name the folder that it lies in")
    if re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", named):
        if cached := _cached_folder(named):
            return cached
        raise CheckpointError(
            f"{named} is neither a folder nor in the hub cache", f"fetch it first: ai-cli download {named}"
        )
    raise CheckpointError(
        f"there is no checkpoint folder {named}", "check the path; ai-cli config shows where it comes from"
    )


def _cached_folder(hub_id: str) -> Path | None:
    """The snapshot of its main revision in the hub cache, without asking the network; None if there is none.

    CheckpointError if it is not complete.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, IncompleteSnapshotError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(hub_id, local_files_only=True))
    except IncompleteSnapshotError as error:
        hint = f"fetch the files that lack: ai-cli download {hub_id}"
        raise CheckpointError(f"{hub_id} in the hub cache is not complete", hint) from error
    except (LocalEntryNotFoundError, HFValidationError):
        return None


def read(folder: Path, name: str) -> Checkpoint:
    """Read all configurations and headers of `folder`; `name` is what messages call it."""
    lm_config = mapping(parse_yaml(_existing(folder, LM_CONFIG)), LM_CONFIG)
    token_ids, system_prompt = _protocol(folder, lm_config)
    return Checkpoint(
        name=name,
        folder=folder,
        lm_config=lm_config,
        lm_tensors=_headers(_weight_files(folder)),
        tower_config=_tower_config(folder),
        tower_weights=_tower_weights(folder),
        tokenizer=_existing(folder, TOKENIZER),
        token_ids=token_ids,
        system_prompt=system_prompt,
        int8=_is_int8(folder),
    )


def headers(file: Path) -> dict[str, TensorHeader]:
    """The tensors that a safetensors file says it holds."""
    try:
        with safe_open(file, framework="np") as tensors:
            slices = {name: tensors.get_slice(name) for name in tensors.keys()}  # noqa: SIM118 - not a mapping
            return {
                name: TensorHeader(file, tuple(part.get_shape()), part.get_dtype()) for name, part in slices.items()
            }
    except (SafetensorError, OSError, ValueError) as error:
        raise damaged(file, error) from error


def _headers(files: list[Path]) -> dict[str, TensorHeader]:
    return {name: header for file in files for name, header in headers(file).items()}


def _weight_files(folder: Path) -> list[Path]:
    """The language model's files: those the index names, else all that are there."""
    index = folder / LM_INDEX
    if not os.path.exists(index):
        if files := sorted(folder.glob("model*.safetensors")):
            return files
        raise _missing(folder, "model.safetensors")
    weight_map = mapping(mapping(parse_json(index), LM_INDEX).get("weight_map"), f"weight_map of {LM_INDEX}")
    names = sorted({str(name) for name in weight_map.values()})
    for name in names:
        if os.path.basename(name) != name or name in ("", ".", ".."):  # of a million names in a second, unlike Path
            raise CheckpointError(f"{LM_INDEX} names a file outside the checkpoint folder: {name}")
    return [_existing(folder, name) for name in names]


def _tower_config(folder: Path) -> Mapping[str, Any]:
    for name in TOWER_CONFIGS:
        if os.path.exists(folder / name):
            config = mapping(parse_json(folder / name), name)
            thinker = mapping(config.get("thinker_config"), f"thinker_config of {name}")
            return mapping(thinker.get("audio_config"), f"audio_config of {name}")
    raise _missing(folder, TOWER_CONFIGS[0])


def _tower_weights(folder: Path) -> Path:
    """The audio tower's file, safetensors preferred to the pickle of the same name."""
    files = {file.stem: file for ending in (".pth", ".safetensors") for file in folder.glob(TOWER_WEIGHTS + ending)}
    if not files:
        raise _missing(folder, f"{TOWER_WEIGHTS}.pth")
    if len(files) > 1:
        raise CheckpointError(
            f"{folder} holds several audio towers: {', '.join(sorted(files))}", "leave only one of them there"
        )
    return next(iter(files.values()))


def _is_int8(folder: Path) -> bool:
    if not os.path.exists(folder / QUANTIZATION):
        return False
    form = mapping(parse_json(folder / QUANTIZATION), QUANTIZATION).get("format")
    if form != INT8_FORMAT:
        raise CheckpointError(
            f"{QUANTIZATION} says format {brief(form)}, which is not implemented",
            "make it again from the unquantized checkpoint: ai-cli convert",
        )
    return True


def _protocol(folder: Path, lm_config: Mapping[str, Any]) -> tuple[TokenIds, str]:
    """The checkpoint's own token ids and default prompt; the published ones if it has no file of them."""
    ids, prompt = PUBLISHED_TOKEN_IDS, SYSTEM_PROMPT
    if os.path.exists(folder / PROTOCOL):
        given = mapping(parse_json(folder / PROTOCOL), PROTOCOL)
        ids = _token_ids(mapping(given.get("token_ids"), f"token_ids of {PROTOCOL}"))
        prompt = _text(given.get("system_prompt"))
    vocabulary = lm_config.get("padded_vocab_size")  # what else may be wrong with it is told by who uses it
    if isinstance(vocabulary, int) and vocabulary <= max(ids.control_end - 1, *ids.signs.values()):
        raise CheckpointError(f"a vocabulary of {vocabulary} has no room for the protocol's tokens")
    return ids, prompt


def _text(prompt: object) -> str:
    if not isinstance(prompt, str) or prompt.encode(errors="replace").decode() != prompt:  # half a surrogate pair
        raise _wrong_protocol("has no text as system_prompt")
    return prompt


def _token_ids(given: Mapping[str, Any]) -> TokenIds:
    """All ids by name, whole numbers; only `system` and `text_begin` may be one token."""
    names = {field.name for field in fields(TokenIds)}
    if wrong := sorted(names ^ given.keys()):
        raise _wrong_protocol(f"{'lacks the' if wrong[0] in names else 'has an unknown'} token id {wrong[0]}")
    for name, token in given.items():
        if type(token) is not int or token < 0:
            raise _wrong_protocol(f"has {brief(token)} as {name}, which is no token id")
    ids = TokenIds(**given)
    if ids.control_begin > ids.control_end:
        raise _wrong_protocol("has a control_begin above its control_end")
    owners: dict[int, str] = {}
    for name, token in ids.signs.items():
        owner = owners.setdefault(token, name)
        if owner != name and {owner, name} != {"system", "text_begin"}:
            raise _wrong_protocol(f"gives {owner} and {name} the same id {token}")
    return ids


def _wrong_protocol(why: str) -> CheckpointError:
    return CheckpointError(f"{PROTOCOL} {why}", "it must say what the model was trained with; get the checkpoint anew")


def _existing(folder: Path, name: str) -> Path:
    if not os.path.isfile(folder / name):
        raise _missing(folder, name)
    return folder / name


def _missing(folder: Path, name: str) -> CheckpointError:
    return CheckpointError(
        f"{folder} is not a complete checkpoint: {name} is missing", f"fetch the whole checkpoint: {DOWNLOAD}"
    )
