"""GGUF files made by gguf-py: what is read back, as which model, with how many requests, and what is refused."""

from __future__ import annotations

import math
import random
import re
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import pytest

from moeplan.core.errors import ConfigError, InputError
from moeplan.core.model import LatentAttention
from moeplan.core.weights import parameters
from moeplan.sources.families import FAMILIES, read_config
from moeplan.sources.gguf.model import GgufFile, join_parts, part_names, read_gguf, read_gguf_ranges
from moeplan.sources.gguf.names import gguf_role, gguf_roles, is_gguf_buffer
from moeplan.sources.gguf.part import read_part
from moeplan.sources.gguf.types import FILE_TYPES, TENSOR_TYPES, block
from tests.sources.gguf_files import Shapes, add_values, converted, write
from tests.sources.gguf_models import LATENT, MODELS, PLAIN, SHARED, USED, Model

Q = gguf.GGMLQuantizationType
SMALL: Shapes = {
    "token_embd.weight": (96, 64),
    "output_norm.weight": (64,),
    "blk.0.attn_norm.weight": (64,),
    "blk.0.attn_q.weight": (64, 64),
}
ONE_BLOCK: dict[str, Any] = {**PLAIN, "block_count": 1}


def as_gguf_py_reads(*paths: Path) -> list[tuple[str, str, tuple[int, ...], int]]:
    """Name, type, shape (outermost first) and bytes of every tensor."""
    return [
        (tensor.name, tensor.tensor_type.name, tuple(int(size) for size in reversed(tensor.shape)), int(tensor.n_bytes))
        for path in paths
        for tensor in gguf.GGUFReader(path).tensors
    ]


def as_read(file: GgufFile) -> list[tuple[str, str, tuple[int, ...], int]]:
    return [(t.name, t.dtype, t.shape, t.num_bytes) for t in file.checkpoint.tensors]


def codes(file: GgufFile) -> list[str]:
    return [remark.code for remark in file.remarks]


class Counted:
    """A file in memory that counts what is asked of it."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.calls: list[tuple[int, int]] = []

    def __call__(self, offset: int, length: int) -> bytes:
        self.calls.append((offset, length))
        return self.content[offset : offset + length]

    @property
    def num_bytes(self) -> int:
        return sum(length for _, length in self.calls)


# Models ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_a_converted_model_is_the_model_it_was(name: str, tmp_path: Path) -> None:
    model = MODELS[name]
    shapes, total = converted(model.config, model.architecture)
    file = read_gguf(write(tmp_path / "model.gguf", model.architecture, model.values, shapes))
    assert {tensor.name: tensor.shape for tensor in file.checkpoint.tensors} == shapes
    spec, published = read_config(file.config), read_config(model.config)
    assert parameters(spec).total == total
    assert spec.layers == published.layers
    assert spec.tied_embedding == published.tied_embedding
    assert spec.max_context_tokens == 512
    assert spec.family == published.family
    assert "gguf-architecture-unknown" not in codes(file)


# Families that sort a few tensors in their own way: DBRX's norms are stored in its attention block, ernie's correction
# bias is a parameter, Gemma 4 keeps a scale per expert in the router that the file puts beside the experts.
OWN_ROLES = ("dbrx", "ernie4_5-moe", "gemma4")


@pytest.mark.parametrize("name", [name for name in MODELS if name not in OWN_ROLES])
def test_roles_by_name_sum_to_the_roles_of_the_inventory(name: str) -> None:
    model = MODELS[name]
    shapes, _ = converted(model.config, model.architecture)
    sums: dict[str, int] = {}
    for tensor, role in gguf_roles(shapes).items():
        assert role is not None, tensor
        if not is_gguf_buffer(tensor):
            sums[role] = sums.get(role, 0) + math.prod(shapes[tensor])
    counted = parameters(read_config(model.config)).by_role
    assert sums == {role: count for role, count in counted.items() if count}


def test_every_name_of_gguf_py_for_language_models_has_a_role() -> None:
    unknown = set()
    for tensors in gguf.MODEL_TENSORS.values():
        for tensor in tensors:
            name = gguf.TENSOR_NAMES[tensor].format(bid=3) + ".weight"
            if gguf_role(name) is None:
                unknown.add(name)
    # Audio codecs, embedding and classifier heads.
    heads = r"(cls|dense_[23]|conv1d|convnext|posnet)\b.*"
    assert {name for name in unknown if not re.fullmatch(heads, name)} == set()
    assert gguf_role("blk.0.no_such_thing.weight") is None
    assert gguf_role("blk.7.ffn_up.5.weight") == "routed_experts"


def test_every_architecture_names_a_family_of_the_registry(tmp_path: Path) -> None:
    from moeplan.sources.gguf.architectures import READERS

    assert set(READERS) <= set(gguf.MODEL_ARCH_NAMES.values())
    seen = {
        str(read_gguf(write(tmp_path / f"{number}.gguf", model.architecture, model.values, SMALL)).config["model_type"])
        for number, model in enumerate(MODELS.values())
        if model.architecture not in ("ernie4_5-moe", "jamba")  # these need their blocks
    }
    assert {name for name in seen if not name.startswith("gguf ")} <= set(FAMILIES)


def test_prediction_layers_count_beside_the_layers(tmp_path: Path) -> None:
    model = MODELS["glm4moe"]
    shapes, total = converted(model.config, model.architecture)
    extra = {name.replace("blk.3.", "blk.4."): shape for name, shape in shapes.items() if name.startswith("blk.3.")}
    extra |= {
        "blk.4.nextn.eh_proj.weight": (64, 128),
        "blk.4.nextn.enorm.weight": (64,),
        "blk.4.nextn.hnorm.weight": (64,),
        "blk.4.nextn.shared_head_norm.weight": (64,),
    }
    values = {**model.values, "block_count": 5, "nextn_predict_layers": 1}
    file = read_gguf(write(tmp_path / "with.gguf", "glm4moe", values, shapes | extra))
    counts = parameters(read_config(file.config))
    assert file.config["num_hidden_layers"] == 4
    assert counts.total == total
    assert counts.mtp_unique == sum(math.prod(shape) for name, shape in extra.items() if not is_gguf_buffer(name))
    assert {gguf_roles(extra)[name] for name in extra if "nextn" in name} == {"other", "norm"}
    taken_out = read_gguf(write(tmp_path / "without.gguf", "glm4moe", values, shapes))
    assert taken_out.config["num_hidden_layers"] == 4
    assert parameters(read_config(taken_out.config)).mtp_unique == 0
    assert "gguf-mtp-left-out" in codes(taken_out)


def test_latent_attention_as_written_before_it_was_absorbed(tmp_path: Path) -> None:
    config = MODELS["deepseek2"].config
    shapes, total = converted(config, "deepseek2")
    old = {name: shape for name, shape in shapes.items() if not name.endswith(("attn_k_b.weight", "attn_v_b.weight"))}
    old |= {f"blk.{number}.attn_kv_b.weight": (4 * (16 + 16), 32) for number in range(4)}
    values = {
        **PLAIN, **SHARED, "attention.head_count_kv": 4, "attention.q_lora_rank": 24, "attention.kv_lora_rank": 32,
        "attention.key_length": 24, "attention.value_length": 16, "rope.dimension_count": 8,
    }  # fmt: skip
    spec = read_config(read_gguf(write(tmp_path / "old.gguf", "deepseek2", values, old)).config)
    assert parameters(spec).total == total
    mixer = spec.layers[0].mixers[0]
    assert isinstance(mixer, LatentAttention)
    assert (mixer.qk_nope_head_dim, mixer.qk_rope_head_dim, mixer.v_head_dim) == tuple(
        LATENT[name] for name in ("qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim")
    )


def test_experts_as_written_before_they_were_stacked(tmp_path: Path) -> None:
    model = MODELS["mixtral"]
    shapes, total = converted(model.config, "llama")
    single: Shapes = {}
    for name, shape in shapes.items():
        if "_exps" not in name:
            single[name] = shape
            continue
        for expert in range(shape[0]):
            single[name.replace("_exps", f".{expert}")] = shape[1:]
    file = read_gguf(write(tmp_path / "old.gguf", "llama", model.values, single))
    assert parameters(read_config(file.config)).total == total
    assert {role for name, role in gguf_roles(single).items() if re.search(r"ffn_\w+\.\d", name)} == {"routed_experts"}


def test_an_unknown_architecture_is_read_by_the_general_rules(tmp_path: Path) -> None:
    model = MODELS["qwen3moe"]
    shapes, total = converted(model.config, "qwen3moe")
    for architecture in ("newmoe", "afmoe"):  # the second is a family, but not by these keys
        file = read_gguf(write(tmp_path / f"{architecture}.gguf", architecture, model.values, shapes))
        assert file.architecture == architecture
        assert "gguf-architecture-unknown" in codes(file)
        spec = read_config(file.config)
        assert spec.family == "general"
        assert parameters(spec).total == total


def test_unknown_layers_with_a_state_are_not_taken_for_attention(tmp_path: Path) -> None:
    shapes = SMALL | {"blk.0.ssm_a": (64,)}
    file = read_gguf(write(tmp_path / "x.gguf", "newssm", ONE_BLOCK, shapes))
    with pytest.raises(ConfigError, match="linear_attention"):
        read_config(file.config)


def test_the_table_decides_over_a_stated_vocabulary(tmp_path: Path) -> None:
    file = read_gguf(write(tmp_path / "x.gguf", "llama", {**ONE_BLOCK, "vocab_size": 90}, SMALL))
    assert file.config["vocab_size"] == 96
    assert "gguf-metadata" in codes(file)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("block_count", 4_000_000_000, "llama.block_count"),
        ("block_count", "four", "llama.block_count"),
        ("attention.head_count_kv", [2, 2], None),
        ("embedding_length", 0, "llama.embedding_length"),
        ("expert_count", [8.5], "llama.expert_count"),
        ("context_length", [1] * 20_000, "llama.context_length"),
    ],
)
def test_metadata_that_cannot_be_meant_is_named(tmp_path: Path, key: str, value: object, said: str | None) -> None:
    path = write(tmp_path / "x.gguf", "llama", {**ONE_BLOCK, key: value}, SMALL)
    if said is None:
        assert read_gguf(path).config["num_key_value_heads"] == 2
        return
    with pytest.raises(ConfigError, match=re.escape(f"`{said}`")):
        read_gguf(path)


def test_missing_metadata_is_left_to_the_family_to_name(tmp_path: Path) -> None:
    values = {key: value for key, value in {**ONE_BLOCK, **USED}.items() if key != "expert_used_count"}
    file = read_gguf(write(tmp_path / "x.gguf", "llama", values, SMALL))
    with pytest.raises(ConfigError, match="num_experts_per_tok"):
        read_config(file.config)


@pytest.mark.parametrize(("architecture", "kind"), [("clip", "mmproj"), ("llama", "adapter"), ("llama", "imatrix")])
def test_files_that_are_no_models_are_refused(tmp_path: Path, architecture: str, kind: str) -> None:
    path = write(tmp_path / "x.gguf", architecture, {**ONE_BLOCK, "general.type": kind}, SMALL)
    with pytest.raises(InputError, match="not a language model"):
        read_gguf(path)


def test_a_vocabulary_alone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no tensors"):
        read_gguf(write(tmp_path / "vocab.gguf", "llama", ONE_BLOCK, {}))


# Tensors ---------------------------------------------------------------------------------------------------

STORED = [kind for kind in Q if block(kind.name) is not None]


def test_type_numbers_and_names_are_those_of_gguf_py() -> None:
    assert {number: TENSOR_TYPES[number] for number in TENSOR_TYPES} == {kind.value: kind.name for kind in Q}
    theirs = {
        kind.value: kind.name.removeprefix("MOSTLY_").removeprefix("ALL_")
        for kind in gguf.LlamaFileType
        if kind.name != "GUESSED"
    }
    assert theirs == FILE_TYPES


def test_every_type_has_the_bytes_that_gguf_py_gives_it(tmp_path: Path) -> None:
    shapes = SMALL | {f"blk.0.{kind.name}.weight": (3, 2, 512) for kind in STORED}
    types = {f"blk.0.{kind.name}.weight": kind for kind in STORED}
    path = write(tmp_path / "x.gguf", "llama", ONE_BLOCK, shapes, types)
    assert len(STORED) >= 30
    assert as_read(read_gguf(path)) == as_gguf_py_reads(path)


@pytest.mark.parametrize("kind", [kind for kind in Q if kind not in STORED], ids=lambda kind: str(kind.name))
def test_types_without_a_known_block_are_named(tmp_path: Path, kind: gguf.GGMLQuantizationType) -> None:
    path = write(tmp_path / "x.gguf", "llama", ONE_BLOCK, SMALL | {"odd": (2, 512)}, {"odd": kind})
    with pytest.raises(InputError, match=rf"'odd'.*{kind.name} \({kind.value}\)"):
        read_gguf(path)


@pytest.mark.parametrize(
    ("number", "said"), [(4, "Q4_2"), (31, "Q4_0_4_4"), (97, "type 97"), (2**32 - 1, "4294967295")]
)
def test_unknown_and_removed_types_are_named(number: int, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_bytes(header([tensor("t", (32,), kind=number)]))


def test_mixed_types_keep_names_order_bytes_and_metadata(tmp_path: Path) -> None:
    model = MODELS["mixtral"]
    config = {**model.config, "hidden_size": 256, "head_dim": 64, "intermediate_size": 512}
    shapes, total = converted(config, "llama")
    mixed = {name: Q.Q4_K for name, shape in shapes.items() if len(shape) > 1}
    mixed |= {name: Q.Q6_K for name in shapes if "ffn_down_exps" in name or name == "output.weight"}
    mixed |= {name: Q.F32 for name in shapes if "ffn_gate_inp" in name}
    values = {
        **model.values, "embedding_length": 256, "feed_forward_length": 512, "attention.key_length": 64,
        "attention.value_length": 64, "general.file_type": 15, "general.name": "Tiny Mixtral",
    }  # fmt: skip
    path = write(tmp_path / "x.gguf", "llama", values, shapes, mixed)
    file = read_gguf(path)
    assert as_read(file) == as_gguf_py_reads(path)
    assert file.checkpoint.files == ("x.gguf",)
    assert {tensor.file for tensor in file.checkpoint.tensors} == {"x.gguf"}
    assert file.checkpoint.metadata["general.file_type"] == "Q4_K_M"
    assert file.checkpoint.metadata["general.name"] == "Tiny Mixtral"
    assert parameters(read_config(file.config)).total == total


def test_big_endian_files_are_read_and_noted(tmp_path: Path) -> None:
    path = write(tmp_path / "x.gguf", "llama", ONE_BLOCK, SMALL, endianess=gguf.GGUFEndian.BIG)
    file = read_gguf(path)
    assert as_read(file) == as_gguf_py_reads(path)
    assert "gguf-big-endian" in codes(file)
    assert file.config["hidden_size"] == 64


def test_version_2_is_read(tmp_path: Path) -> None:
    content = bytearray(write(tmp_path / "x.gguf", "llama", ONE_BLOCK, SMALL).read_bytes())
    content[4:8] = struct.pack("<I", 2)
    assert [tensor.name for tensor in read_bytes(bytes(content)).checkpoint.tensors] == list(SMALL)


# Split files -----------------------------------------------------------------------------------------------


def split(folder: Path, **options: Any) -> list[Path]:
    model = MODELS["qwen3moe"]
    shapes, _ = converted(model.config, model.architecture)
    write(folder / "m.gguf", model.architecture, model.values, shapes, **options)
    return sorted(folder.glob("m-*.gguf"))


@pytest.mark.parametrize("options", [{"split_max_tensors": 20}, {"split_max_tensors": 20, "small_first_shard": True}])
def test_any_part_of_a_split_model_stands_for_all(tmp_path: Path, options: dict[str, Any]) -> None:
    paths = split(tmp_path, **options)
    assert len(paths) > 2
    for path in paths:
        file = read_gguf(path)
        assert as_read(file) == as_gguf_py_reads(*paths)
        assert file.checkpoint.files == tuple(path.name for path in paths)
        assert file.config["model_type"] == "qwen3_moe"
    assert part_names(paths[1].name) == tuple(path.name for path in paths)
    assert part_names("whole.gguf") == ("whole.gguf",)


def test_missing_parts_are_named(tmp_path: Path) -> None:
    first, second, *rest = split(tmp_path, split_max_tensors=20)
    second.unlink()
    with pytest.raises(InputError, match=re.escape(second.name)):
        read_gguf(first)
    content = first.read_bytes()
    with pytest.raises(InputError, match=re.escape(rest[0].name)):
        read_gguf_ranges(Counted(content), len(content), f"org/name: {first.name}")


def test_parts_that_are_not_one_model_are_refused(tmp_path: Path) -> None:
    paths = split(tmp_path, split_max_tensors=20)
    renamed = tmp_path / "renamed.gguf"
    renamed.write_bytes(paths[0].read_bytes())
    with pytest.raises(InputError, match="does not say which"):
        read_gguf(renamed)
    second = paths[1].read_bytes()
    paths[1].write_bytes(paths[2].read_bytes())
    with pytest.raises(InputError, match=r"split\.no"):
        read_gguf(paths[0])
    paths[1].write_bytes(second)
    read_gguf(paths[0])
    content = bytearray(paths[0].read_bytes())
    at = content.index(b"split.tensors.count") + len(b"split.tensors.count") + 4
    content[at] += 1
    paths[0].write_bytes(content)
    with pytest.raises(InputError, match=r"split\.tensors\.count"):
        read_gguf(paths[0])


def test_parts_by_range_requests_join(tmp_path: Path) -> None:
    paths = split(tmp_path, split_max_tensors=20)
    parts = []
    for path in paths:
        counted = Counted(path.read_bytes())
        parts.append(read_part(counted, len(counted.content), f"org/name: {path.name}", path.name))
        assert len(counted.calls) == 1
    assert as_read(join_parts(parts)) == as_gguf_py_reads(*paths)


def test_a_whole_file_with_the_name_of_a_part_is_whole(tmp_path: Path) -> None:
    path = write(tmp_path / "m-00001-of-00002.gguf", "llama", ONE_BLOCK, SMALL)
    assert "gguf-split-name" in codes(read_gguf(path))


# Range requests --------------------------------------------------------------------------------------------

TOKENS = 150_000


@pytest.fixture(scope="module")
def huge(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, int, int]:
    """(header, its bytes, bytes of the file) of a model of 600 GB with a large vocabulary; the weights are not there."""
    path = tmp_path_factory.mktemp("huge") / "huge.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_token_list([f"token number {number}" for number in range(TOKENS)])
    writer.add_token_scores([0.0] * TOKENS)
    writer.add_token_types([1] * TOKENS)
    writer.add_token_merges([f"left{number} right{number}" for number in range(TOKENS)])
    writer.add_chat_template("{# long #}" * 2000)
    add_values(writer, "llama", {**PLAIN, **USED, "block_count": 61})
    data_bytes = 0
    for number in range(61):
        for name, shape in {"ffn_up_exps": (256, 2048, 7168), "attn_norm": (7168,)}.items():
            size = math.prod(shape) * 4
            data_bytes += size
            writer.add_tensor_info(f"blk.{number}.{name}.weight", shape, None, size, Q.F32)  # type: ignore[arg-type]
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    header_bytes = path.read_bytes()
    return header_bytes, len(header_bytes), -(-len(header_bytes) // 32) * 32 + data_bytes


def test_a_large_header_takes_a_handful_of_requests(huge: tuple[bytes, int, int]) -> None:
    content, header_bytes, file_bytes = huge
    assert header_bytes > 5_000_000
    counted = Counted(content + bytes(32 << 20))
    file = read_gguf_ranges(counted, file_bytes, "org/name: huge.gguf")
    assert len(file.checkpoint.tensors) == 122
    assert file.checkpoint.num_bytes > 600e9
    assert len(counted.calls) <= 5, counted.calls
    assert counted.num_bytes <= 2 * header_bytes + (1 << 20)
    ends = [offset + length for offset, length in counted.calls]
    assert all(offset >= end for (offset, _), end in zip(counted.calls[1:], ends, strict=False))


def test_a_large_vocabulary_is_not_kept(huge: tuple[bytes, int, int]) -> None:
    content, _, file_bytes = huge
    counted = Counted(content + bytes(32 << 20))
    tracemalloc.start()
    read_gguf_ranges(counted, file_bytes, "huge.gguf")
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 30 << 20


def test_a_reader_that_gives_too_little_is_an_error(huge: tuple[bytes, int, int]) -> None:
    content, _, file_bytes = huge
    with pytest.raises(InputError, match="asked for"):
        read_gguf_ranges(Counted(content), file_bytes, "huge.gguf")


# Broken and hostile files ----------------------------------------------------------------------------------


def read_bytes(content: bytes) -> GgufFile:
    return read_gguf_ranges(Counted(content), len(content), "x.gguf")


def text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(raw)) + raw


def key(name: str | bytes, kind: int, value: bytes) -> bytes:
    return text(name) + struct.pack("<I", kind) + value


def tensor(name: str | bytes, innermost_first: tuple[int, ...], kind: int = 0, offset: int = 0) -> bytes:
    sizes = struct.pack(f"<I{len(innermost_first)}Q", len(innermost_first), *innermost_first)
    return text(name) + sizes + struct.pack("<IQ", kind, offset)


def header(
    tensors: list[bytes],
    keys: list[bytes] | None = None,
    *,
    version: int = 3,
    num_tensors: int | None = None,
    num_keys: int | None = None,
    data: int = 4096,
) -> bytes:
    keys = [key("general.architecture", 8, text("llama"))] if keys is None else keys
    counts = (len(tensors) if num_tensors is None else num_tensors, len(keys) if num_keys is None else num_keys)
    return b"GGUF" + struct.pack("<IQQ", version, *counts) + b"".join(keys + tensors) + bytes(data)


NORM = tensor("blk.0.attn_norm.weight", (32,))
ARCHITECTURE = key("general.architecture", 8, text("llama"))
HUGE = 2**63 + 1

HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "not a GGUF file"),
    "three bytes": (lambda: b"GGU", "not a GGUF file"),
    "no magic": (lambda: b"PK\x03\x04" + bytes(100), "not a GGUF file"),
    "an old format": (lambda: b"tjgg" + bytes(100), "not a GGUF file"),
    "a pointer": (lambda: b"version https://git-lfs.github.com/spec/v1\n", "not a GGUF file"),
    "version 1": (lambda: header([NORM], version=1), "version 1"),
    "version 0": (lambda: header([NORM], version=0), "version 0"),
    "version 4": (lambda: header([NORM], version=4), "version 4"),
    "keys beyond the file": (lambda: header([NORM], num_keys=9000, data=0), "metadata keys is 9000"),
    "keys beyond reason": (lambda: header([NORM], num_keys=HUGE), "number of metadata keys"),
    "tensors beyond the file": (lambda: header([NORM], num_tensors=9000), "number of tensors is 9000"),
    "tensors beyond reason": (lambda: header([NORM], num_tensors=HUGE), "number of tensors"),
    "fewer keys than stated": (lambda: header([NORM], num_keys=40), "'' appears twice"),
    "key longer than names are": (lambda: header([], [struct.pack("<Q", HUGE)]), "metadata key of"),
    "key not UTF-8": (lambda: header([NORM], [key(b"\xff\xfe", 4, bytes(4))]), "not UTF-8"),
    "key twice": (lambda: header([NORM], [ARCHITECTURE, ARCHITECTURE]), "appears twice"),
    "text beyond the file": (
        lambda: header([NORM], [text("general.name") + struct.pack("<IQ", 8, HUGE)]), "general.name.* needs",
    ),
    "value of an unknown type": (lambda: header([NORM], [key("k", 13, bytes(8))]), "unknown type 13"),
    "neither true nor false": (lambda: header([NORM], [key("k", 7, b"\x02")]), "neither true"),
    "array of arrays": (lambda: header([NORM], [key("k", 9, struct.pack("<IQ", 9, 1))]), "array of arrays"),
    "array of unknown items": (lambda: header([NORM], [key("k", 9, struct.pack("<IQ", 99, 1))]), "unknown type 99"),
    "numbers beyond the file": (lambda: header([NORM], [key("k", 9, struct.pack("<IQ", 4, HUGE))]), "'k' needs"),
    "few numbers beyond the file": (
        lambda: header([], [key("k", 9, struct.pack("<IQ", 12, 5000))], data=100), "'k' needs",
    ),
    "texts beyond the file": (lambda: header([NORM], [key("k", 9, struct.pack("<IQ", 8, HUGE))]), "'k' needs"),
    "one text beyond the file": (
        lambda: header([NORM], [key("k", 9, struct.pack("<IQQ", 8, 2, HUGE))]), "a string of the array 'k'",
    ),
    "tensor name too long": (lambda: header([struct.pack("<Q", 5000) + b"n" * 5000]), "tensor name of 5000"),
    "tensor twice": (lambda: header([NORM, NORM]), "appears twice"),
    "five dimensions": (lambda: header([tensor("t", (1, 1, 1, 1, 1))]), "5 dimensions"),
    "a dimension of 0": (lambda: header([tensor("t", (4, 0))]), "size 0"),
    "absurd dimensions": (lambda: header([tensor("t", (2**62, 2**62, 2**62))]), "needs .* bytes from here"),
    "rows of half a block": (lambda: header([tensor("t", (48,), kind=2)]), "no multiple of 32"),
    "offset beyond the file": (lambda: header([tensor("t", (32,), offset=2**40)]), "incomplete download"),
    "largest offset": (lambda: header([tensor("t", (32,), offset=2**64 - 32)]), "incomplete download"),
    "offset off the alignment": (lambda: header([tensor("t", (32,), offset=8)]), "off the alignment"),
    "overlap": (lambda: header([tensor("a", (32,)), tensor("b", (32,), offset=32)]), "overlaps"),
    "alignment 0": (
        lambda: header([NORM], [ARCHITECTURE, key("general.alignment", 4, bytes(4))]), "no power of two",
    ),
    "alignment 48": (
        lambda: header([NORM], [ARCHITECTURE, key("general.alignment", 4, struct.pack("<I", 48))]), "no power of two",
    ),
    "alignment in words": (
        lambda: header([NORM], [ARCHITECTURE, key("general.alignment", 8, text("x" * 3000))]), "no power of two",
    ),
    "no architecture": (lambda: header([NORM], []), r"general\.architecture"),
    "architecture is a number": (
        lambda: header([NORM], [key("general.architecture", 4, bytes(4))]), r"general\.architecture",
    ),
    "split in more parts than there are": (
        lambda: header([NORM], [ARCHITECTURE, key("split.count", 2, struct.pack("<H", 65535))]), "65535 parts",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused_with_a_reason(name: str) -> None:
    build, said = HOSTILE[name]
    content = build()
    tracemalloc.start()
    with pytest.raises(InputError, match=said) as caught:
        read_bytes(content)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 2 << 20
    assert "x.gguf" in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.hint


def test_breaks_name_the_byte_where_they_are() -> None:
    content = header([tensor("fine", (32,)), tensor("t", (48,), kind=2, offset=128)])
    at = content.index(struct.pack("<IQ", 2, 128), content.index(text("t")))
    with pytest.raises(InputError, match=rf"at byte {at}:"):
        read_bytes(content)


def test_a_header_without_end_is_refused_early() -> None:
    # Strings of no length in a file that really has the room: nothing claims more than there is.
    start = b"GGUF" + struct.pack("<IQQ", 3, 1, 1) + text("k") + struct.pack("<IQ", 9, 8)
    start = start[:-8] + struct.pack("<IQ", 8, 2**40)
    fetched = 0

    def read(offset: int, length: int) -> bytes:
        nonlocal fetched
        fetched += length
        return (start + bytes(length))[offset : offset + length] if offset < len(start) else bytes(length)

    with pytest.raises(InputError, match="256 MiB"):
        read_gguf_ranges(read, 2**50, "x.gguf")
    assert fetched <= 2 << 20


def small_file(tmp_path: Path) -> bytes:
    values = {
        **ONE_BLOCK,
        "tokenizer.ggml.tokens": ["a", "bc", ""],
        "tokenizer.ggml.scores": [0.5, 1.5],
        "attention.head_count_kv": [2],
        "general.name": "x",
        "rope.flag": True,
    }
    shapes: Shapes = {"token_embd.weight": (4, 32), "blk.0.attn_norm.weight": (32,)}
    return write(tmp_path / "small.gguf", "llama", values, shapes).read_bytes()


def test_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    content = small_file(tmp_path)
    read_bytes(content)
    for end in range(len(content)):
        with pytest.raises(InputError):
            read_bytes(content[:end])


def test_damaged_bytes_never_get_past_the_errors(tmp_path: Path) -> None:
    content = small_file(tmp_path)
    dice = random.Random(3)  # noqa: S311 - damage, no secret
    refused = 0
    for _ in range(4000):
        damaged = bytearray(content)
        for _ in range(dice.randint(1, 3)):
            at = dice.randrange(len(content) - 640)  # the metadata, not the zeros behind it
            damaged[at] = dice.choice((0, 1, 2, 255, dice.randrange(256)))
        try:
            file = read_bytes(bytes(damaged))
            read_config(file.config)
        except InputError:
            refused += 1
    assert 400 < refused < 4000


def test_files_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_gguf(tmp_path / "nothing.gguf")
    with pytest.raises(InputError, match="cannot be read"):
        read_gguf(tmp_path)


def test_the_metadata_of_the_models_uses_keys_of_gguf_py() -> None:
    """The table above is no copy of our reader: every key it uses is one that gguf-py knows."""
    known = {
        value.removeprefix("{arch}.")
        for group in vars(gguf.Keys).values()
        if isinstance(group, type)
        for holder in (group, *(inner for inner in vars(group).values() if isinstance(inner, type)))
        for value in vars(holder).values()
        if isinstance(value, str)
    }
    for model in MODELS.values():
        assert isinstance(model, Model)
        assert set(model.values) <= known
