"""`moeplan profile` on the CPU: what it writes, and that a later estimate uses it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

torch = pytest.importorskip("torch")

import moeplan  # noqa: E402
from moeplan.core.errors import InputError, UnknownError  # noqa: E402
from moeplan.core.ledger import Line  # noqa: E402
from moeplan.core.measurement import MeasuredDevice, Point  # noqa: E402
from moeplan.estimate import Estimate  # noqa: E402
from moeplan.measure import experts  # noqa: E402
from moeplan.profile import Profile, profile  # noqa: E402
from moeplan.profile.record import Conditions, Part, Record, read_record, write_record  # noqa: E402
from moeplan.profile.run import not_for  # noqa: E402


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    # Two threads on shared cores make tiny tensors twenty times slower.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("profiles")


@pytest.fixture(scope="module")
def found(folder: Path) -> Profile:
    return profile(effort="quick", device="cpu", name="this-cpu", profiles=folder)


def line_of(answer: Estimate, code: str) -> Line:
    (line,) = (line for line in answer.ranks[0].lines if line.code == code)
    return line


def test_every_section_gave_figures(found: Profile) -> None:
    assert found.complete
    assert found.device.kind == "cpu"
    names = {figure.name for figure in found.figures}
    assert names >= {
        "read_bytes_per_s", "copy_bytes_per_s", "host_copy_bytes_per_s", "matmul_bfloat16_flops_per_s",
        "attention_bytes_per_s", "experts_bfloat16_bytes_per_s", "layer_fixed_s", "context_bytes",
    }  # fmt: skip
    assert all(figure.low <= figure.value <= figure.high for figure in found.figures)
    assert all(figure.value > 0 for figure in found.figures)
    # What is for GPUs alone says so, and nothing else failed.
    assert {problem.backend for problem in found.problems if problem.not_for is None} <= {"torch.grouped_mm"}
    elsewhere = {(problem.backend, problem.dtype, problem.not_for) for problem in found.problems}
    assert elsewhere >= {(backend, "bfloat16", "device") for backend in ("torch.scaled_grouped_mm", "vllm.fused_moe")}


def test_a_later_estimate_uses_what_was_measured(found: Profile, folder: Path) -> None:
    asked: dict[str, Any] = {"engine": "transformers", "context": 2048, "offline": True, "profiles": folder}
    before = moeplan.estimate("olmoe-1b-7b", gpu="cpu-2ch-ddr5-5600", **asked)
    assert before.verdict.fits is None  # nobody knows that machine's memory
    after = moeplan.estimate("olmoe-1b-7b", gpu="this-cpu", **asked)
    context = line_of(after, "device_context")
    (measured,) = (figure for figure in found.figures if figure.name == "context_bytes")
    assert (context.basis, context.bytes) == ("measured", measured.value)
    assert "moeplan" in context.why.source
    assert after.hardware is not None
    assert after.hardware.usable_basis == "measured"
    assert after.hardware.usable_bytes == found.device.total_bytes


def test_the_newest_block_counts(found: Profile, folder: Path, tmp_path: Path) -> None:
    assert found.path is not None
    content = yaml.safe_load(Path(found.path).read_text(encoding="utf-8"))
    newer = content["measured"][0] | {"date": "2999-01-01", "time": "00:00:00Z"}
    newer["figures"] = newer["figures"] | {"context_bytes": {"value": 1000, "low": 900, "high": 1100}}
    content["measured"].append(newer)
    (tmp_path / "hardware").mkdir()
    (tmp_path / "hardware" / "this-cpu.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    answer = moeplan.estimate(
        "olmoe-1b-7b", gpu="this-cpu", engine="transformers", context=2048, offline=True, profiles=tmp_path
    )
    context = line_of(answer, "device_context")
    assert (context.low_bytes, context.bytes, context.high_bytes) == (900, 1000, 1100)


def test_the_block_says_who_measured_what_and_when(found: Profile) -> None:
    assert found.path is not None
    assert found.points_path is not None
    (block,) = yaml.safe_load(Path(found.path).read_text(encoding="utf-8"))["measured"]
    assert block["kind"] == "profile"
    assert block["device"]["torch_version"] == torch.__version__
    assert (block["seed"], block["num_points"]) == (0, found.num_points)
    assert block["tool"].startswith("moeplan ")
    assert f"{block['date']} {block['time']}" == f"{found.date} {found.time}"
    record = read_record(Path(found.points_path))
    (part,) = record.parts
    assert part.conditions.device == found.device
    assert part.when == f"{found.date}T{found.time}"
    assert len(record.points) == found.num_points
    experts = [point for point in record.points if point.section == "experts" and point.spread is not None]
    assert all({"distinct", "busiest", "relative_error", "seed"} <= set(point.values) for point in experts)


def codes(found: Profile) -> dict[str, str]:
    return {note.code: note.message for note in found.notes}


def test_what_was_measured_already_is_not_added_again(found: Profile, folder: Path) -> None:
    assert found.path is not None
    before = Path(found.path).read_bytes()
    again = profile(effort="quick", device="cpu", name="this-cpu", profiles=folder, resume=True, against="this-cpu")
    assert [figure.value for figure in again.figures] == [figure.value for figure in found.figures]
    assert (again.num_taken, again.num_points) == (found.num_points - len(found.problems), found.num_points)
    assert (again.date, again.time, again.path) == (found.date, found.time, found.path)
    assert codes(again)["resumed"].startswith(f"everything was measured already on {found.date} {found.time}")
    # It is no other run than that of the newest block.
    assert (again.against, again.changes) == (None, None)
    assert "nothing to compare" in codes(again)["against-itself"]
    assert Path(found.path).read_bytes() == before
    # Fewer sections of it are nothing new either; where the block is gone, it is written again.
    profile(effort="quick", device="cpu", name="this-cpu", profiles=folder, resume=True, sections=("layer",))
    assert Path(found.path).read_bytes() == before
    content = yaml.safe_load(before)
    Path(found.path).write_text(yaml.safe_dump(content | {"measured": []}), encoding="utf-8")
    profile(effort="quick", device="cpu", name="this-cpu", profiles=folder, resume=True)
    (block,) = yaml.safe_load(Path(found.path).read_text(encoding="utf-8"))["measured"]
    assert (block["date"], block["time"]) == (found.date, found.time)
    assert block["figures"] == content["measured"][0]["figures"]


def test_going_on_says_what_is_of_which_run(found: Profile, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "hardware", tmp_path / "hardware")
    asked: dict[str, Any] = {"effort": "quick", "device": "cpu", "name": "this-cpu", "profiles": tmp_path}
    path = tmp_path / "hardware" / "this-cpu.points.json.gz"
    (part,) = read_record(path).parts
    fewer = part._replace(points=tuple(point for point in part.points if point.section != "layer"))
    write_record(path, Record((fewer,)))
    again = profile(**asked, resume=True, against="this-cpu")
    layers = sum(point.section == "layer" for point in part.points)
    taken = found.num_points - len(found.problems) - layers
    assert again.num_taken == taken
    assert codes(again)["resumed"].startswith(
        f"{taken} cases taken from the run of {found.date} {found.time}, {layers} case"
    )
    assert again.against is None  # most of it would stand beside itself
    blocks = yaml.safe_load((tmp_path / "hardware" / "this-cpu.yaml").read_text(encoding="utf-8"))["measured"]
    assert [block["kind"] for block in blocks] == ["profile"] * 2


def test_other_conditions_are_refused_to_go_on_with_and_lose_nothing(tmp_path: Path) -> None:
    asked: dict[str, Any] = {"effort": "quick", "device": "cpu", "name": "one", "profiles": tmp_path}
    profile(**asked, sections=("matmul", "layer"))
    path = tmp_path / "hardware" / "one.points.json.gz"
    (part,) = read_record(path).parts
    older = part.conditions._replace(device=part.conditions.device._replace(driver_version=None, torch_version="2.6.0"))
    write_record(path, Record((part._replace(conditions=older),)))
    with pytest.raises(
        InputError, match=r"one\.points\.json\.gz was measured with torch 2\.6\.0, and this run is with torch"
    ):
        profile(**asked, sections=("layer",), resume=True)
    profile(**asked, sections=("layer",))
    first, second = read_record(path).parts
    assert ({point.section for point in first.points}, first.conditions) == ({"matmul"}, older)
    assert {point.section for point in second.points} == {"layer"}
    path.write_bytes(b"broken")
    assert "no record of a profile: it was replaced" in codes(profile(**asked, sections=("layer",)))["measured"]


def test_a_fresh_run_is_compared_with_the_one_before(tmp_path: Path) -> None:
    asked: dict[str, Any] = {"effort": "quick", "device": "cpu", "name": "one", "profiles": tmp_path}
    first = profile(**asked, sections=("layer",))
    again = profile(**asked, sections=("layer",), against="one")
    assert again.against is not None
    assert again.against[:5] == ("one", first.date, first.time, first.tool, first.device.torch_version)
    assert again.changes is not None
    assert [change.name for change in again.changes] == ["layer_fixed_s"]
    assert again.against.num_changed + again.against.num_unchanged == 1
    other = profile(**asked, sections=("matmul",), against="one")
    assert other.changes == ()
    assert "that one has layer_fixed_s" in codes(other)["nothing-to-compare"]


def test_backends_that_are_not_for_a_device_or_dtype_are_no_problems() -> None:
    cpu = MeasuredDevice("cpu", "A CPU", "2.13.0", *(None,) * 12)
    hopper = cpu._replace(kind="cuda", compute_capability="9.0")

    def reason(backend: str, dtype: str, device: MeasuredDevice, problem: str | None = None) -> str | None:
        told = problem or experts.load(backend).available(device, dtype)
        return not_for(Point("experts", backend, dtype, {}, problem=told), device)

    assert reason("torch.scaled_grouped_mm", "bfloat16", cpu) == "device"
    assert reason("torch.scaled_grouped_mm", "float8_e4m3fn", cpu) == "device"
    assert reason("loop", "float8_e4m3fn", cpu) == "dtype"
    assert reason("torch.scaled_grouped_mm", "bfloat16", hopper) == "dtype"
    assert reason("torch.grouped_mm", "bfloat16", hopper._replace(compute_capability="7.5")) == "device"
    # These are problems: they failed, or there is something to be done about them.
    assert reason("loop", "bfloat16", cpu, "out of memory") is None
    assert reason("torch.scaled_grouped_mm", "float8_e4m3fn", hopper, "RuntimeError: no") is None
    assert reason("torch.matmul", "int8", cpu, "not supported") is None
    assert reason("loop", "bfloat16", cpu) is None
    if find_spec("vllm") is None:
        assert reason("vllm.fused_moe", "bfloat16", cpu) == "device"
        assert reason("vllm.fused_moe", "bfloat16", hopper) is None


def test_an_interrupted_run_keeps_what_it_has(tmp_path: Path) -> None:
    def stop(done_s: float, total_s: float, now: str) -> None:
        if now.startswith("layer"):
            raise KeyboardInterrupt

    asked: dict[str, Any] = {
        "effort": "quick", "device": "cpu", "name": "cut", "profiles": tmp_path, "sections": ("matmul", "layer"),
    }  # fmt: skip
    cut = profile(**asked, progress=stop)
    assert (cut.complete, cut.path) == (False, None)
    assert cut.points_path is not None
    record = read_record(Path(cut.points_path))
    assert {point.section for point in record.points} == {"matmul"}
    whole = profile(**asked, resume=True)
    assert whole.complete
    assert whole.points_path is not None
    kept = [point for point in read_record(Path(whole.points_path)).points if point.section == "matmul"]
    assert kept == list(record.points)
    assert not Path(cut.points_path).exists()
    # Another run of one section, and one that is cut, take nothing away from the complete record.
    profile(**asked | {"sections": ("layer",)})
    profile(**asked, progress=stop)
    assert {point.section for point in read_record(Path(whole.points_path)).points} == {"matmul", "layer"}


def test_a_wrong_backend_does_not_break_the_record(tmp_path: Path) -> None:
    point = Point(
        "experts", "loop", "bfloat16", {"tokens": 1}, values={"relative_error": float("inf")}, problem="wrong"
    )
    device = MeasuredDevice("cpu", "A CPU", "2.13.0", *(None,) * 12)
    part = Part(Conditions(device, 0, 0.1, "moeplan 1", {}), "2026-11-25T12:34:56Z", (point,))
    write_record(tmp_path / "a.points.json.gz", Record((part,)))
    (read,) = read_record(tmp_path / "a.points.json.gz").points
    assert (read.problem, read.values) == ("wrong", {})


def test_a_name_of_another_card_is_refused(tmp_path: Path) -> None:
    for name in ("h200", "nvidia-h100-sxm"):
        with pytest.raises(InputError, match="and this is"):
            profile(device="cpu", name=name, profiles=tmp_path, effort="quick", sections=("layer",))
    assert list(tmp_path.rglob("*.yaml")) == []
    with pytest.raises(InputError, match="nothing of links"):
        profile(device="cpu", name="cpu", profiles=tmp_path, effort="quick", sections=("links",))


def test_a_later_profile_of_one_section_takes_nothing_back(found: Profile, folder: Path) -> None:
    profile(effort="quick", device="cpu", name="this-cpu", profiles=folder, sections=("layer",))
    answer = moeplan.estimate(
        "olmoe-1b-7b", gpu="this-cpu", engine="transformers", context=2048, offline=True, profiles=folder
    )
    assert line_of(answer, "device_context").basis == "measured"


def test_shapes_of_a_model(tmp_path: Path) -> None:
    config = Path(__file__).parent / "tiny-moe.json"
    got = profile(
        config, effort="quick", device="cpu", name="model", profiles=tmp_path, sections=("experts",), offline=True
    )
    assert got.points_path is not None
    shapes = {point.case["hidden_size"]: point.case for point in read_record(Path(got.points_path)).points}
    assert set(shapes) == {64}
    assert (shapes[64]["expert_width"], shapes[64]["num_experts"], shapes[64]["experts_per_token"]) == (32, 8, 2)


@pytest.mark.parametrize(
    ("asked", "error", "words"),
    [
        ({"sections": ("kitchen",)}, InputError, "'kitchen' is no section"),
        ({"effort": "heroic"}, InputError, "effort 'heroic'"),
        ({"dtypes": ("float13",)}, InputError, "dtype 'float13'"),
        ({"device": "abacus"}, InputError, "device 'abacus'"),
        ({"name": "No Name"}, InputError, "'No Name' is no name of a profile"),
        ({"model": "llama-3.1-8b"}, InputError, "has no experts"),
        ({"against": "h100"}, InputError, "holds no block"),
        ({"resume": True}, InputError, "to go on with"),
        ({"profiles": [""]}, InputError, "names no folder"),
    ],
)
def test_what_is_asked_wrongly(asked: dict[str, Any], error: type[Exception], words: str, tmp_path: Path) -> None:
    everything: dict[str, Any] = {"device": "cpu", "profiles": tmp_path, "offline": True, "effort": "quick"} | asked
    with pytest.raises(error, match=words):
        profile(**everything)
    assert list(tmp_path.rglob("*.yaml")) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UnknownError, match="device cuda is not there"):
        profile(device="cuda", profiles=tmp_path)


def test_a_profile_of_another_device_is_not_added_to(tmp_path: Path) -> None:
    (tmp_path / "hardware").mkdir()
    text = "schema: 1\nname: Other\nmeasured:\n- {kind: profile, date: '2026-01-01', device: {name: Other device}}\n"
    path = tmp_path / "hardware" / "other.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match="was measured on Other device"):
        profile(device="cpu", name="other", profiles=tmp_path, effort="quick")
    assert path.read_text(encoding="utf-8") == text


def test_two_processes_measure_their_links(tmp_path: Path) -> None:
    words = [
        "--nproc-per-node",
        "2",
        "-m",
        "moeplan",
        "profile",
        "--device",
        "cpu",
        "--quick",
        "--section",
        "links",
        "--section",
        "layer",
        "--name",
        "two",
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MOEPLAN_DEBUG": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", *words, "--profiles", str(tmp_path)],
        capture_output=True, text=True, timeout=180, check=False, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("MEASURED") == 1
    points = read_record(tmp_path / "hardware" / "two.points.json.gz").points
    links = {point.case["what"] for point in points if point.section == "links" and "bytes_per_s" in point.values}
    assert links == {"all_reduce", "all_gather", "reduce_scatter", "all_to_all"}
    assert any(point.section == "layer" for point in points)
