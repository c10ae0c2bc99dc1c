"""Logs that are none, that break off, or that are too big: one line and a way out."""

from __future__ import annotations

import gzip
import tracemalloc
from collections.abc import Iterator
from itertools import repeat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moeplan.core.engine_log import EngineLog
from moeplan.core.errors import InputError
from moeplan.sources.engine_logs import read_log, read_log_lines
from moeplan.sources.engine_logs.arguments import is_secret, pairs
from moeplan.sources.engine_logs.lines import LONGEST_LINE_BYTES, telling_lines

WEIGHTS = (
    b"(EngineCore pid=9) INFO 12-01 10:00:00 [gpu_model_runner.py:1] Model loading took 14.2474 GiB and 12.3 seconds\n"
)
TOKENS = b"(EngineCore pid=9) INFO 12-01 10:00:09 [kv_cache_utils.py:1] GPU KV cache size: 635,648 tokens\n"
VALUE = round(14.2474 * 2**30)


def written(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "engine.log"
    path.write_bytes(content)
    return path


def refused(path: Path, engine: str | None = None) -> InputError:
    with pytest.raises(InputError) as refusal:
        read_log(path, engine)
    assert "\n" not in refusal.value.message
    assert refusal.value.hint
    assert "\n" not in refusal.value.hint
    return refusal.value


def test_no_such_file(tmp_path: Path) -> None:
    assert "no such file" in refused(tmp_path / "absent.log").message


def test_a_folder(tmp_path: Path) -> None:
    assert "is a folder" in refused(tmp_path).message


def test_a_path_that_cannot_be_one() -> None:
    assert "cannot be read" in refused(Path("a\0b")).message


def test_an_empty_file_an_empty_pipe_and_an_empty_name(tmp_path: Path) -> None:
    assert refused(written(tmp_path, b"")).message.endswith("engine.log: the log is empty")
    with pytest.raises(InputError, match="standard input: the log is empty"):
        read_log_lines([], "standard input")
    with pytest.raises(InputError, match="name of the log is empty"):
        read_log("")


@pytest.mark.parametrize(
    "content",
    [
        b"GET / HTTP/1.1\n" * 50,
        b"\n\n\n",
        b"Jan 01 kernel: [0.0] 16 GiB of memory, KV cache of nothing, 12 blocks: all fine\n",
        b"[2026-08-01 10:00:00] the disk has 12 GB free\n",
        b"\xff\xfe\xfd no text \x80\x81\n" * 10,
    ],
    ids=["web", "blank", "kernel", "disk", "latin"],
)
def test_a_log_of_another_program(tmp_path: Path, content: bytes) -> None:
    assert "holds no line" in refused(written(tmp_path, content)).message


@pytest.mark.parametrize(
    "content", [bytes(range(256)) * 100, b"GGUF\x03\x00\x00\x00" + b"\x00" * 5000], ids=["noise", "model"]
)
def test_a_binary_file(tmp_path: Path, content: bytes) -> None:
    assert "is no text" in refused(written(tmp_path, content)).message


def test_a_device_that_never_ends() -> None:
    assert "is no text" in refused(Path("/dev/zero")).message
    assert "is no text" in refused(Path("/dev/urandom")).message


@pytest.mark.parametrize(
    ("magic", "kind"),
    [(b"\x28\xb5\x2f\xfd", "zstd"), (b"\xfd7zXZ\x00", "xz"), (b"PK\x03\x04", "zip"), (b"BZh9", "bzip2")],
)
def test_a_packed_file_says_how_to_unpack_it(tmp_path: Path, magic: bytes, kind: str) -> None:
    refusal = refused(written(tmp_path, magic + b"\x00" * 100))
    assert kind in refusal.message
    assert "unpack" in refusal.hint


def test_a_gzip_file_is_read_and_a_cut_one_is_named(tmp_path: Path) -> None:
    packed = gzip.compress(WEIGHTS + TOKENS)
    assert read_log(written(tmp_path, packed)).told("weights_bytes")[0].value == VALUE
    assert "gzip" in refused(written(tmp_path, packed[:-20])).message


def test_an_engine_whose_logs_are_not_read(tmp_path: Path) -> None:
    refusal = refused(written(tmp_path, WEIGHTS), "trtllm")
    assert "'trtllm'" in refusal.message
    assert "vllm, sglang, llamacpp" in refusal.hint


def test_a_log_of_another_engine_than_the_one_that_was_named(tmp_path: Path) -> None:
    refusal = refused(written(tmp_path, WEIGHTS), "sglang")
    assert "is a log of vLLM, not of SGLang" in refusal.message
    assert "vllm" in refusal.hint
    assert read_log(written(tmp_path, WEIGHTS + TOKENS), "vllm").engine == "vllm"


@pytest.mark.parametrize(
    ("head", "name"),
    [
        ("INFO 12-01 10:00:00 [api_server.py:1977] vLLM API server version 0.11.2\n", "vLLM"),
        ("[2026-08-01 10:00:00] server_args=ServerArgs(model_path='x', tp_size=2)\n", "SGLang"),
        (
            "llama_model_loader: loaded meta data with 35 key-value pairs and 579 tensors from x.gguf (version GGUF V3)\n",
            "llama.cpp",
        ),
    ],
)
def test_a_log_that_stops_before_any_figure(tmp_path: Path, head: str, name: str) -> None:
    assert f"a log of {name} that stops before any figure" in refused(written(tmp_path, head.encode())).message


@pytest.mark.parametrize(
    "line",
    [
        WEIGHTS,
        b"[2026-08-01 10:00:00 TP0] Load weight begin. avail mem=78.48 GB\n",
        b"load_tensors:        CUDA0 model buffer size = 10750.86 MiB\n",
    ],
)
def test_a_cut_log_keeps_what_it_told(tmp_path: Path, line: bytes) -> None:
    log = read_log(written(tmp_path, line + b"(EngineCore pid=9) INFO 12-01 10:00:01 [gpu_wor"))
    assert len(log.readings) == 1
    assert not log.complete
    assert log.started is None
    assert [note.code for note in log.notes] == ["log-cut"]


def test_a_last_line_without_an_end_is_read(tmp_path: Path) -> None:
    assert read_log(written(tmp_path, WEIGHTS + TOKENS.rstrip())).told("kv_tokens")[0].value == 635_648


def test_invalid_bytes_between_and_inside_lines(tmp_path: Path) -> None:
    log = read_log(written(tmp_path, b"\x80\xfe\xff garbage\n\x00" + b"\xc3(" + WEIGHTS + b"\xf0\x28\x8c\n" + TOKENS))
    assert [reading.line_number for reading in log.readings] == [2, 4]
    assert log.told("weights_bytes")[0].value == VALUE


def test_what_powershell_writes(tmp_path: Path) -> None:
    log = read_log(written(tmp_path, (WEIGHTS + TOKENS).decode().encode("utf-16")))
    assert log.told("weights_bytes")[0].value == VALUE


def test_line_ends_of_windows_and_progress_bars(tmp_path: Path) -> None:
    bar = b"Loading shards: 10%|#   \rLoading shards: 90%|### \r"
    log = read_log(written(tmp_path, b"first\r\n" + bar + WEIGHTS.replace(b"\n", b"\r\n") + bar * 20_000 + TOKENS))
    assert [reading.line_number for reading in log.readings] == [2, 3]
    assert log.told("weights_bytes")[0].text == "Model loading took 14.2474 GiB"


def test_a_huge_line_is_cut_and_the_next_one_read(tmp_path: Path) -> None:
    huge = b"x" * (3 * 2**20) + b" Model loading took 99.00 GiB and 1 seconds\n"
    log = read_log(written(tmp_path, WEIGHTS + huge + TOKENS))
    assert log.told("weights_bytes")[0].value == VALUE
    assert log.told("kv_tokens")[0].line_number == 3


def test_no_line_is_longer_than_the_limit() -> None:
    blocks = [b"GiB" + b"y" * 2**17, b"z" * 2**17, b" end\nGiB short\n"]
    lines = list(telling_lines(blocks, [b"GiB"]))
    assert [number for number, _ in lines] == [1, 2]
    assert len(lines[0][1]) == LONGEST_LINE_BYTES
    assert lines[1][1] == "GiB short"


@pytest.mark.parametrize("size", [1, 7, 64, 1000])
def test_where_blocks_end_does_not_matter(size: int) -> None:
    text = b"one\nGiB two\r\nthree\rGiB four\n\nGiB six"
    blocks = [text[at : at + size] for at in range(0, len(text), size)]
    assert list(telling_lines(blocks, [b"GiB"])) == [(2, "GiB two"), (3, "GiB four"), (5, "GiB six")]


def test_memory_does_not_grow_with_the_log() -> None:
    noise = '(APIServer pid=1) INFO:     10.0.0.1:43210 - "POST /v1/chat/completions HTTP/1.1" 200 OK\n' * 1000

    def lines() -> Iterator[str]:
        yield WEIGHTS.decode()
        for block in repeat(noise, 150):  # 13 MB
            yield from block.splitlines(keepends=True)
        yield TOKENS.decode()

    tracemalloc.start()
    try:
        log = read_log_lines(lines(), "-")
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert log.told("kv_tokens")[0].line_number == 150_002
    assert peak_bytes < 6 * 2**20


def test_lines_of_two_engines_are_told_and_may_be_chosen(tmp_path: Path) -> None:
    both = WEIGHTS + TOKENS + b"load_tensors:        CUDA0 model buffer size = 10750.86 MiB\n"
    log = read_log(written(tmp_path, both))
    assert log.engine == "vllm"
    assert "log-several-engines" in {note.code for note in log.notes}
    assert read_log(written(tmp_path, both), "llamacpp").engine == "llamacpp"


def test_more_figures_than_an_engine_could_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("moeplan.sources.engine_logs.starts.MOST_READINGS", 10)
    lines = [f"(Worker_TP{rank} pid=1) INFO [x.py:1] Model loading took 1.5 GiB and 2 seconds" for rank in range(20)]
    with pytest.raises(InputError, match="more than 10 figures"):
        read_log_lines(lines, "x.log")


@pytest.mark.parametrize(
    "line",
    [
        "x" * 60_000 + " KV buffer size compute buffer size output buffer size",
        "y" * 60_000 + "load_tensors: buffer size MiB",
        "Capture " * 8000 + "GB",
        "Load weight end. " * 3000 + "GB",
        "INFO non-default args: {'a': '\\d', 'b': 1e999} GiB",
        "INFO Model loading took 9" + "9" * 5000 + " GiB and 2 seconds",
        "INFO Model loading took ..4 GiB and 2 seconds",
        "INFO GPU KV cache size: ,,, tokens",
        "{" * 60_000 + "GiB",
        "INFO non-default args: {" + "'\\" * 30_000 + " GiB",
        "INFO non-default args: {" + "[" * 30_000 + " GiB",
        "INFO non-default args: {'a': " + "(" * 900 + ")" * 900 + ", 'b': -" + "-" * 900 + "1} GiB",
        "[2026-08-01 10:00:00] server_args=ServerArgs(tp_size=" + "9" * 10_000 + ", dp_size='\\x', GB",
    ],
)
def test_lines_made_to_hurt_do_no_harm(line: str) -> None:
    assert read_log_lines([line, WEIGHTS.decode()], "x.log").told("weights_bytes")[0].value == VALUE


WHOLE = (
    "INFO [utils.py:253] non-default args: {'model': 'a/b', 'tensor_parallel_size': 2, 'hf_overrides': {'x': [1, 'y']}}\n"
    + WEIGHTS.decode()
    + TOKENS.decode()
    + "[2026-08-01 10:00:00] server_args=ServerArgs(model_path='x', tp_size=2, cuda_graph_bs=[1, 2])\n"
    "[2026-08-01 10:00:00 TP1] KV Cache is allocated. #tokens: 392920, K size: 17.99 GB, V size: 17.99 GB\n"
    "llama_context: n_ctx         = 4096\n"
    "load_tensors:        CUDA0 model buffer size = 10750.86 MiB\n"
    "llama_kv_cache: size =  384.00 MiB (  4096 cells,  48 layers,  1/1 seqs), K (f16):  192.00 MiB, V (f16):  192.00 MiB\n"
)


def outcome(text: str) -> EngineLog | str:
    try:
        return read_log_lines(text.splitlines(keepends=True), "x.log")
    except InputError as refusal:
        return refusal.message


@given(st.integers(0, len(WHOLE)), st.integers(0, 60), st.text(max_size=20) | st.from_regex(r"[-0-9.,(){}'=]{1,8}"))
def test_a_mangled_log_is_read_or_refused_in_one_line(at: int, dropped: int, put: str) -> None:
    told = outcome(WHOLE[:at] + put + WHOLE[at + dropped :])
    assert "\n" not in told if isinstance(told, str) else told.readings


@given(st.integers(0, len(WHOLE)))
def test_a_log_that_breaks_off_tells_no_figure_that_the_whole_does_not(at: int) -> None:
    told = outcome(WHOLE[:at])
    if isinstance(told, EngineLog):
        whole = read_log_lines(WHOLE.splitlines(keepends=True), "x.log", told.engine)
        told_whole = {(reading.quantity, reading.value, reading.line_number) for reading in whole.readings}
        assert {(reading.quantity, reading.value, reading.line_number) for reading in told.readings} <= told_whole


def test_pairs_of_both_spellings() -> None:
    spelled = "{'a': 1, 'b': [2, (3, 4)], 'c': \"x, 'y'\", 'd': F(e=5, f={'g': ']'})} h=6"
    expected = [("a", "1"), ("b", "[2, (3, 4)]"), ("c", "\"x, 'y'\""), ("d", "F(e=5, f={'g': ']'})")]
    assert list(pairs(spelled, 1)) == expected
    assert list(pairs("a=1, b='x=2', c=[3]", 0)) == [("a", "1"), ("b", "'x=2'")]  # the last may be cut


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("api_key", True), ("admin_api_key", True), ("hf_token", True), ("HF-TOKEN", True), ("ssl_keyfile", True),
        ("aws.secret", True), ("max_num_batched_tokens", False), ("tokenizer", False), ("kv_cache_dtype", False),
        ("num_speculative_tokens", False), ("max_model_len", False),
    ],
)  # fmt: skip
def test_names_of_secrets(name: str, secret: bool) -> None:
    assert is_secret(name) is secret
