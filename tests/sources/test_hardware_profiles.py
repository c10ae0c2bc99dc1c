"""The built-in profiles agree with the figures they were taken from; names, strictness and the user's own folders."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from moeplan.core.errors import EXIT_INPUT, InputError
from moeplan.core.hardware import Hardware, usable
from moeplan.sources import hardware_profiles, strict_yaml
from moeplan.sources.hardware_profiles import build_index, find_hardware, list_hardware, read_hardware
from moeplan.sources.profile_folders import builtin_folder, profile_folders, user_config_folder

GIB = 1024**3
BUILTIN = builtin_folder("hardware")
PROFILES = {path.stem: read_hardware(path) for path in sorted(BUILTIN.glob("*.yaml"))}
SLICES = {profile: hardware for profile, hardware in PROFILES.items() if "-mig-" in profile}
CARDS = {profile: hardware for profile, hardware in PROFILES.items() if profile not in SLICES}
PREFIXES = {"nvidia": "nvidia-", "amd": "amd-", "intel": "intel-", "google": "google-", "apple": "", "cpu": ""}


@pytest.fixture(autouse=True)
def no_folders_of_the_person(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MOEPLAN_PROFILES", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(sys, "platform", "linux")


@pytest.fixture
def accelerators(shared: Path) -> list[dict[str, Any]]:
    text = (shared / "data" / "hardware-facts.yaml").read_text(encoding="utf-8")
    found: list[dict[str, Any]] = yaml.safe_load(text)["accelerators"]
    return found


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / "hardware" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


# The built-in figures ---------------------------------------------------------------------------------------


def test_every_accelerator_of_the_figures_has_a_profile_and_no_other(accelerators: list[dict[str, Any]]) -> None:
    assert {PREFIXES[each["vendor"]] + each["id"] for each in accelerators} == set(CARDS)
    assert len(CARDS) == 53


def test_profiles_agree_with_the_figures(accelerators: list[dict[str, Any]]) -> None:
    differing = [
        (profile, what, ours, theirs)
        for each in accelerators
        for profile in [PREFIXES[each["vendor"]] + each["id"]]
        for what, ours, theirs in compared(PROFILES[profile], each)
        if ours != theirs
    ]
    # Rates that the figures lack and that another public source has, which the profile names.
    assert {(profile, theirs) for profile, _, _, theirs in differing} == {
        ("nvidia-rtx-3090", None), ("nvidia-rtx-5090", None),
    }  # fmt: skip
    assert len(differing) == 4


def compared(ours: Hardware, facts: dict[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Each figure twice, in the units of the figures; a profile holds one of the dies of a card."""
    cards = ours.devices_per_card

    def whole(value: int | None, unit: float) -> float | None:
        return None if value is None else round(value * cards / unit, 6)

    yield "vendor", ours.vendor, facts["vendor"]
    yield "architecture", ours.architecture, facts["arch"]
    yield "compute capability", ours.compute_capability, facts["compute_capability"]
    yield "memory kind", ours.memory_kind, facts["memory_type"]
    yield "nominal", whole(ours.nominal_bytes, GIB), facts["memory_gb_marketed"]
    yield "visible", whole(ours.visible_bytes, 1024**2), facts["memory_visible_mib"]
    yield "bandwidth", whole(ours.memory_bandwidth_bytes_per_s, 1e9), facts["memory_bandwidth_gb_s"]
    for kind, rate in facts["dense_tflops"].items():
        yield kind, whole(getattr(ours.dense_flops_per_s, kind), 1e12), rate
    yield "power", whole(ours.power_w, 1), facts["tdp_w"]
    yield "l2", ours.l2_bytes and ours.l2_bytes / 1024**2, facts["l2_cache_mb"]
    yield "nodes", [size // cards for size in ours.node_sizes], facts["common_node_gpus"] or []
    link, theirs = ours.scale_up, facts["interconnect"]
    yield "link", link and link.kind, theirs["scale_up"]
    rate = link.bytes_per_s_per_direction if link else None
    yield "link rate", rate and rate / 1e9, theirs["gb_s_per_direction"]
    yield "domain", link and link.domain_devices, theirs["domain_gpus"]
    pcie = f"{ours.pcie.generation}.0 x{ours.pcie.lanes}" if ours.pcie else None
    # Where the figures leave two generations open, the profile takes the lower.
    yield "pcie", pcie, theirs["pcie"] and theirs["pcie"].replace("/6.0", "")
    price, theirs = ours.price, facts["price_usd_per_gpu_hour"]
    yield (
        "price",
        price and [price.low_usd_per_hour, price.high_usd_per_hour],
        theirs and [theirs["low"], theirs["high"]],
    )


@pytest.mark.parametrize("profile", PROFILES)
def test_every_figure_has_a_source(profile: str) -> None:
    hardware = PROFILES[profile]
    assert hardware.sources["specification"]
    assert bool(hardware.visible_bytes) == bool(hardware.sources.get("memory_visible"))
    assert bool(hardware.reported_bytes) == bool(hardware.sources.get("memory_usable"))
    assert hardware.price is None or hardware.price.sources


def test_the_vendors_gb_is_binary_wherever_nvidia_smi_shows_a_total() -> None:
    shown = {
        profile: (hardware.visible_bytes, hardware.nominal_bytes)
        for profile, hardware in PROFILES.items()
        if hardware.visible_bytes and hardware.nominal_bytes
    }
    assert len(shown) > 25
    for profile, (visible, nominal) in shown.items():
        assert visible > nominal / GIB * 1e9, f"{profile} would fit a decimal reading"


def test_totals_that_public_logs_print_lie_in_the_band(shared: Path) -> None:
    rows = yaml.safe_load((shared / "data" / "observed-memory.yaml").read_text(encoding="utf-8"))["rows"]
    names = {"A100-40GB": "a100-sxm-40gb", "RTX 3090-24GB": "rtx3090", "H100-80GB": "h100-80gb"}
    checked = 0
    for row in rows:
        total = row.get("settings", {}).get("total_gpu_gib")
        if total is None:
            continue
        hardware, _ = find_hardware(names[row["gpu"]])
        found = usable(hardware)
        assert found is not None
        assert found.bytes / GIB == pytest.approx(total, abs=0.02)
        assert found.low_bytes <= total * GIB <= found.high_bytes
        checked += 1
    assert checked >= 7


@pytest.mark.parametrize(
    ("name", "gib"),
    [("a100-80gb", 79.25), ("h200", 139.72), ("rtx4090", 23.6), ("l40s", 44.4), ("gb10", 121.7), ("mi300x", 191.98)],
)
def test_totals_that_engines_report(name: str, gib: float) -> None:
    found = usable(find_hardware(name)[0])
    assert found is not None
    assert found.basis == "measured"
    assert found.bytes / GIB == pytest.approx(gib, abs=0.02)


def test_the_weaker_rules_would_have_covered_nearly_every_card_whose_report_is_known() -> None:
    """Take the report away, then the nvidia-smi total too: the bands that are left must hold the truth."""
    known = [each for each in CARDS.values() if each.reported_bytes and not each.unified_memory]
    assert len(known) >= 15
    outside = set()
    for hardware in known:
        truth = hardware.reported_bytes
        assert truth is not None
        for poorer in (
            hardware._replace(reported_bytes=None, reported_low_bytes=None, reported_high_bytes=None),
            hardware._replace(
                reported_bytes=None, reported_low_bytes=None, reported_high_bytes=None, visible_bytes=None
            ),
        ):
            found = usable(poorer)
            assert found is not None
            assert found.basis == "assumed"
            if not found.low_bytes <= truth <= found.high_bytes:
                outside.add(hardware.profile)
    # A T4 hides less than the band says; GDDR6 with ECC or a large driver share offers less of its nominal size. The
    # report of all of them is known.
    assert outside == {"nvidia-t4", "nvidia-l4", "nvidia-l40s", "nvidia-rtx-4090", "nvidia-rtx-6000-ada"}


@pytest.mark.parametrize(
    ("name", "gib", "eighths", "sms", "of_sms"),
    # nvidia-smi mig -lgip (H100: 16, 26, 32, 60 and 64 of 132 SMs; A100: 14 to 56 of 108), nvidia-smi of MIG devices
    # (A100 80GB: 9728, 19968 and 40192 MiB), and torch on slices of H200 (32.5 GiB) and B200 (20.5 GiB, 18 of 148 SMs).
    [
        ("h100-mig-1g.10gb", 9.75, 1, 16, 132),
        ("h100-mig-1g.20gb", 19.625, 2, 26, 132),
        ("h100-mig-2g.20gb", 19.625, 2, 32, 132),
        ("h100-mig-3g.40gb", 39.5, 4, 60, 132),
        ("h100-mig-4g.40gb", 39.5, 4, 64, 132),
        ("a100-mig-1g.10gb", 9728 / 1024, 1, 14, 108),
        ("a100-mig-2g.20gb", 19968 / 1024, 2, 28, 108),
        ("a100-mig-3g.40gb", 40192 / 1024, 4, 42, 108),
        ("a100-40gb-mig-4g.20gb", 20096 / 1024, 4, 56, 108),
        ("h200-mig-2g.35gb", 32.5, 2, 32, 132),
        ("b200-mig-1g.23gb", 20.5, 1, 18, 148),
    ],
)
def test_slices_of_cards(name: str, gib: float, eighths: int, sms: int, of_sms: int) -> None:
    part, _ = find_hardware(name)
    card = CARDS[part.profile.partition("-mig-")[0]]
    found = usable(part)
    assert found is not None
    assert found.bytes == gib * GIB
    assert card.memory_bandwidth_bytes_per_s is not None
    assert part.memory_bandwidth_bytes_per_s == card.memory_bandwidth_bytes_per_s * eighths // 8
    assert part.dense_flops_per_s.bf16 == pytest.approx((card.dense_flops_per_s.bf16 or 0) * sms / of_sms, rel=1e-9)


@pytest.mark.parametrize("profile", SLICES)
def test_a_slice_is_part_of_its_card(profile: str) -> None:
    part, card = SLICES[profile], CARDS[profile.partition("-mig-")[0]]
    mine, whole = usable(part), usable(card)
    assert mine is not None
    assert whole is not None
    assert mine.high_bytes <= (card.visible_bytes or whole.high_bytes)
    assert (part.compute_capability, part.pcie) == (card.compute_capability, card.pcie)
    assert (part.scale_up, part.power_w, part.price) == (None, None, None)
    for ours, theirs in zip(part.dense_flops_per_s, card.dense_flops_per_s, strict=True):
        assert ours is None or (theirs is not None and ours <= theirs)


@pytest.mark.parametrize(
    ("name", "profile"),
    [
        ("H100 MIG 3g.40gb", "nvidia-h100-sxm-mig-3g-40gb"),
        ("NVIDIA H100 80GB HBM3 MIG 3g.40gb", "nvidia-h100-sxm-mig-3g-40gb"),
        ("NVIDIA H200 MIG 3g.71gb", "nvidia-h200-sxm-mig-3g-71gb"),
        ("nvidia.com/mig-3g.71gb", "nvidia-h200-sxm-mig-3g-71gb"),
        ("mig-1g.23gb", "nvidia-b200-sxm-mig-1g-23gb"),
        ("A100-SXM4-80GB MIG 2g.20gb", "nvidia-a100-sxm-80gb-mig-2g-20gb"),
    ],
)
def test_slices_as_people_write_them(name: str, profile: str) -> None:
    assert find_hardware(name)[0].profile == profile


@pytest.mark.parametrize("name", ["mig-3g.40gb", "3g.40gb", "nvidia.com/mig-1g.10gb"])
def test_a_slice_that_several_cards_have_needs_its_card(name: str) -> None:
    with pytest.raises(InputError, match="unknown GPU"):
        find_hardware(name)


def test_every_device_with_memory_has_a_usable_figure_within_its_band() -> None:
    without = set()
    for profile, hardware in PROFILES.items():
        found = usable(hardware)
        if found is None:
            without.add(profile)
        else:
            assert 0 < found.low_bytes <= found.bytes <= found.high_bytes
            assert hardware.nominal_bytes is not None
            assert found.high_bytes <= hardware.nominal_bytes
    assert without == {profile for profile in PROFILES if profile.startswith("cpu-")}


def test_the_index_is_up_to_date() -> None:
    committed = json.loads((BUILTIN / "index.json").read_text(encoding="utf-8"))
    assert committed == build_index(BUILTIN), (
        "run: python -c 'from moeplan.sources.hardware_profiles import write_index; write_index()'"
    )


# Names ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "profile", "count"),
    [
        ("h100", "nvidia-h100-sxm", None),
        ("H100-SXM", "nvidia-h100-sxm", None),
        ("h100-80gb", "nvidia-h100-sxm", None),
        ("nvidia-h100-80gb-hbm3", "nvidia-h100-sxm", None),
        ("NVIDIA-H100-80GB-HBM3", "nvidia-h100-sxm", None),
        ("NVIDIA H100 80GB HBM3", "nvidia-h100-sxm", None),
        ("NVIDIA H100 PCIe", "nvidia-h100-pcie", None),
        ("NVIDIA H100 NVL", "nvidia-h100-nvl", None),
        ("NVIDIA H200", "nvidia-h200-sxm", None),
        ("nvidia-h200-141gb", "nvidia-h200-sxm", None),
        ("NVIDIA A100-SXM4-80GB", "nvidia-a100-sxm-80gb", None),
        ("NVIDIA A100 80GB PCIe", "nvidia-a100-pcie-80gb", None),
        ("A100", "nvidia-a100-sxm-80gb", None),
        ("a100-40gb", "nvidia-a100-sxm-40gb", None),
        ("nvidia-tesla-a100", "nvidia-a100-sxm-40gb", None),
        ("Tesla T4", "nvidia-t4", None),
        ("Tesla V100-SXM2-32GB", "nvidia-v100-sxm-32gb", None),
        ("rtx4090", "nvidia-rtx-4090", None),
        ("rtx 4090", "nvidia-rtx-4090", None),
        ("4090", "nvidia-rtx-4090", None),
        ("NVIDIA GeForce RTX 4090", "nvidia-rtx-4090", None),
        ("NVIDIA RTX 6000 Ada Generation", "nvidia-rtx-6000-ada", None),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "nvidia-rtx-pro-6000-blackwell-server", None),
        ("NVIDIA GB10", "nvidia-dgx-spark-gb10", None),
        ("AMD Instinct MI300X", "amd-mi300x", None),
        ("Apple M4 Max", "apple-m4-max", None),
        ("v5e", "google-tpu-v5e", None),
        ("4xH100", "nvidia-h100-sxm", 4),
        ("H100:4", "nvidia-h100-sxm", 4),
        ("8x h200", "nvidia-h200-sxm", 8),
        ("8 h200", "nvidia-h200-sxm", 8),
        ("8 × H200", "nvidia-h200-sxm", 8),
        ("8*mi300x", "amd-mi300x", 8),
        ("mi300x:8", "amd-mi300x", 8),
        ("MI300X x 8", "amd-mi300x", 8),
        ("2x4090", "nvidia-rtx-4090", 2),
        ("2 x RTX 4090", "nvidia-rtx-4090", 2),
        ("4090:2", "nvidia-rtx-4090", 2),
        ("4xh100:4", "nvidia-h100-sxm", 4),
        ("A100-80GB:8", "nvidia-a100-sxm-80gb", 8),
    ],
)
def test_spellings(text: str, profile: str, count: int | None) -> None:
    hardware, num_devices = find_hardware(text)
    assert (hardware.profile, num_devices) == (profile, count)


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_is_found_by_its_own_names(profile: str) -> None:
    for name in (profile, profile.upper(), PROFILES[profile].name, *PROFILES[profile].aliases):
        hardware, num_devices = find_hardware(name)
        assert (hardware, num_devices) == (PROFILES[profile], None), name


@pytest.mark.parametrize(
    ("text", "read", "others"),
    [
        ("h100", "nvidia-h100-sxm", ["nvidia-h100-nvl", "nvidia-h100-pcie"]),
        ("8xA100", "nvidia-a100-sxm-80gb", ["nvidia-a100-sxm-40gb", "nvidia-a100-pcie-80gb", "nvidia-a100-pcie-40gb"]),
        ("v100", "nvidia-v100-sxm-16gb", ["nvidia-v100-sxm-32gb"]),
    ],
)
def test_a_shared_name_says_how_it_was_read(text: str, read: str, others: list[str]) -> None:
    hardware, _ = find_hardware(text)
    assert hardware.profile == read
    (note,) = hardware.reading
    for profile in [read, *others]:
        assert profile in note


def test_a_plain_name_needs_no_remark() -> None:
    assert find_hardware("h100-sxm")[0].reading == ()


def test_a_count_of_a_card_of_two_says_what_it_counts() -> None:
    hardware, count = find_hardware("mi250x:4")
    assert count == 4
    assert "a card holds 2" in hardware.reading[0]


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("h300", "unknown GPU 'h300'", "nvidia-h100-sxm"),
        ("rtx 5070", "unknown GPU", "nvidia-rtx-5090"),
        ("h200-nvl", "unknown GPU", "nvidia-h200-sxm"),
        ("cpu", "unknown GPU", "cpu-8ch-ddr5-4800"),
        ("", "unknown GPU", "moeplan gpus"),
        ("4x", "unknown GPU", "moeplan gpus"),
        ("x" * 500, "500 characters", "moeplan gpus"),
        ("h100:0", "between 1 and", "h100:4"),
        ("0xh100", "between 1 and", "h100:4"),
        ("-4xh100", "'-4' is no number", "h100:4"),
        ("h100:", "'' is no number", "h100:4"),
        ("h100:many", "'many' is no number", "h100:4"),
        ("h100:1.5", "'1.5' is no number", "h100:4"),
        ("h100:99999999999999999999", "between 1 and", "h100:4"),
        ("8xh100:4", "twice", "once"),
        ("h100:4:4", "unknown GPU", "nvidia-h100-sxm"),
    ],
)
def test_names_that_cannot_be_meant(text: str, message: str, hint: str) -> None:
    with pytest.raises(InputError) as caught:
        find_hardware(text)
    assert message in caught.value.message
    assert hint in caught.value.hint
    assert caught.value.exit_code == EXIT_INPUT


def test_one_question_reads_the_index_and_one_file(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if watching and event == "open" and str(arguments[0]).startswith(str(BUILTIN)):
            opened.append(Path(arguments[0]).name)

    strict_yaml._read.cache_clear()  # what another test read is not opened again
    watching = True
    sys.addaudithook(watch)
    find_hardware("8xNVIDIA H200")
    watching = False
    assert opened == ["index.json", "nvidia-h200-sxm.yaml"]


# Strictness -------------------------------------------------------------------------------------------------

CARD = "name: My card\nmemory:\n  nominal_bytes: 25769803776\n"


def test_a_short_file_is_enough_and_the_rest_is_unknown(tmp_path: Path) -> None:
    hardware = read_hardware(write(tmp_path, "my-card.yaml", CARD))
    assert (hardware.profile, hardware.name, hardware.nominal_bytes) == ("my-card", "My card", 25769803776)
    assert hardware.memory_bandwidth_bytes_per_s is None
    assert set(hardware.dense_flops_per_s) == {None}
    assert (hardware.scale_up, hardware.pcie, hardware.price, hardware.measured) == (None, None, None, ())


def test_measured_blocks_are_kept_as_they_stand(tmp_path: Path) -> None:
    text = CARD + 'measured:\n  - device: NVIDIA H200\n    date: "2026-11-22"\n    copy: {spread: 0.01}\n'
    (block,) = read_hardware(write(tmp_path, "my-card.yaml", text)).measured
    assert block == {"device": "NVIDIA H200", "date": "2026-11-22", "copy": {"spread": 0.01}}


@pytest.mark.parametrize(
    ("text", "where", "hint"),
    [
        (
            CARD + "memory_bandwith_bytes_per_s: 1\n",
            "`memory_bandwith_bytes_per_s` is not",
            "memory_bandwidth_bytes_per_s",
        ),
        ("name: A\nmemory:\n  nominal_byte: 1\n", "`memory.nominal_byte` is not", "`nominal_bytes`"),
        (CARD + "dense_flops_per_s: {bf61: 1}\n", "`dense_flops_per_s.bf61` is not", "`bf16`"),
        (CARD + "links: {nvlink: 1}\n", "`links.nvlink` is not", "scale_up"),
        (CARD + "sources: {spec: [a]}\n", "`sources.spec` is not", "specification"),
        (CARD + "7: 1\n", "`7` is not", "known keys"),
        ("name: A\nmemory: {nominal_bytes: 80 GB}\n", "`memory.nominal_bytes` is '80 GB', not a whole", "digits"),
        ("name: A\nmemory: {nominal_bytes: 1.5}\n", "not a whole number", "digits"),
        ("name: A\nmemory: {nominal_bytes: true}\n", "not a whole number", "digits"),
        ("name: A\nmemory: {nominal_bytes: 0}\n", "must be between 1", "correct"),
        ("name: A\nmemory: [1]\n", "`memory` is [1], not a block", "correct"),
        ("name: A\ncompute_capability: 9.0\n", "`compute_capability` is 9.0, not text", "quotes"),
        ("name: 4090\n", "`name` is 4090, not text", "quotes"),
        ("vendor: nvidia\n", "`name` is missing", "name"),
        ("name: A\naliases: h100\n", "`aliases` is 'h100', not a list", "correct"),
        ("name: A\naliases: [100]\n", "`aliases` holds 100", "quotes"),
        ("name: A\nnode_sizes: [0]\n", "`node_sizes` holds 0", "correct"),
        ("name: A\nmeasured: [fast]\n", "`measured` holds 'fast'", "correct"),
        ("name: A\nschema: 2\n", "`schema` is 2", "update"),
        ("name: A\nname: B\n", "`name` is given twice", "line"),
        ("name: [A\n", "not valid YAML", "line"),
        ("- 1\n", "holds no keys", "keys"),
        ("", "holds no keys", "keys"),
        ("name: !!python/object:os.system {}\n", "not valid YAML", "line"),
        ("name: A\nlinks: {pcie: {generation: 5}}\n", "`links.pcie.lanes` is missing", "pcie: null"),
        ("name: A\nlinks: {scale_up: {domain_devices: 8}}\n", "`links.scale_up.kind` is missing", "NVLink"),
        ("name: A\nprice_usd_per_hour: {low: 2, high: 1, as_of: now}\n", "more than the high", "correct"),
        ("name: A\nprice_usd_per_hour: {low: 2}\n", "`price_usd_per_hour.high` is missing", "null"),
        ("name: A\nmemory: {visible_bytes: 9, nominal_bytes: 8}\n", "`memory.visible_bytes` is 9, more", "correct"),
        ("name: A\nmemory: {usable_bytes: 9, visible_bytes: 8}\n", "`memory.usable_bytes` is 9, more", "correct"),
        ("name: A\nmemory: {usable_bytes: 5, usable_low_bytes: 6}\n", "`memory.usable_low_bytes` is 6", "correct"),
        ("name: A\nmemory: {usable_low_bytes: 6}\n", "`memory.usable_bytes` is missing", "none"),
        ("name: A\ndefault_for: [h100]\n", "`default_for` holds 'h100'", "list it"),
    ],
)
def test_a_wrong_file_names_itself_and_the_key(tmp_path: Path, text: str, where: str, hint: str) -> None:
    path = write(tmp_path, "wrong.yaml", text)
    with pytest.raises(InputError) as caught:
        read_hardware(path)
    assert caught.value.message.startswith(str(path))
    assert where in caught.value.message
    assert hint in caught.value.hint
    assert "\n" not in caught.value.message


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_hardware(tmp_path / "absent.yaml")
    path = write(tmp_path, "latin.yaml", CARD)
    path.write_bytes(b"name: \xff\n")
    with pytest.raises(InputError, match="UTF-8"):
        read_hardware(path)
    path.write_text("#" * (2 << 20), encoding="utf-8")
    with pytest.raises(InputError, match="larger than"):
        read_hardware(path)


def test_two_files_may_not_claim_one_name(tmp_path: Path) -> None:
    write(tmp_path, "a.yaml", "name: A\naliases: [fast card]\n")
    write(tmp_path, "b.yaml", "name: B\naliases: [Fast-Card]\n")
    with pytest.raises(InputError, match="'fastcard' belongs to a too"):
        build_index(tmp_path / "hardware")


def test_a_shared_name_needs_exactly_one_default(tmp_path: Path) -> None:
    write(tmp_path, "a.yaml", "name: A\nshared_names: [card]\n")
    write(tmp_path, "b.yaml", "name: B\nshared_names: [card]\n")
    with pytest.raises(InputError, match="needs one default among a, b"):
        build_index(tmp_path / "hardware")
    write(tmp_path, "b.yaml", "name: B\nshared_names: [card]\ndefault_for: [card]\n")
    assert build_index(tmp_path / "hardware")["shared"] == {"card": ["b", "a"]}


# The user's folders -----------------------------------------------------------------------------------------


def test_a_users_file_is_found_by_file_name_name_and_alias(tmp_path: Path) -> None:
    path = write(tmp_path, "rtx-5070.yaml", CARD + 'aliases: ["5070", lab card]\n')
    for text in ("rtx5070", "NVIDIA RTX 5070", "my card", "2x Lab-Card"):
        hardware, _ = find_hardware(text, [tmp_path])
        assert hardware.path == str(path)
        assert str(path) in hardware.reading[0]
    with pytest.raises(InputError):
        find_hardware("rtx5070")


def test_a_users_file_wins_over_the_built_in_one_and_says_so(tmp_path: Path) -> None:
    write(tmp_path, "nvidia-h200-sxm.yaml", CARD)
    for text in ("nvidia-h200-sxm", "h200", "8xNVIDIA H200"):
        hardware, _ = find_hardware(text, [tmp_path])
        assert hardware.name == "My card"
        assert "replaces the built-in profile" in hardware.reading[0]
    assert find_hardware("h100-sxm", [tmp_path])[0] == PROFILES["nvidia-h100-sxm"]


def test_a_users_alias_wins_over_a_built_in_name(tmp_path: Path) -> None:
    write(tmp_path, "lab.yaml", CARD + "aliases: [H100]\n")
    assert find_hardware("h100:2", [tmp_path])[0].profile == "lab"


def test_a_file_may_be_named_by_its_path(tmp_path: Path) -> None:
    path = write(tmp_path, "lab.yaml", CARD)
    assert find_hardware(str(path)) == (read_hardware(path), None)


def test_a_broken_file_is_an_error_only_when_it_is_asked_for(tmp_path: Path) -> None:
    write(tmp_path, "broken.yaml", "name: A\nbandwith: 1\n")
    assert find_hardware("h200", [tmp_path])[0] == PROFILES["nvidia-h200-sxm"]
    with pytest.raises(InputError, match="`bandwith` is not a known key"):
        find_hardware("broken", [tmp_path])


def test_the_listing_holds_built_in_own_and_broken_profiles(tmp_path: Path) -> None:
    write(tmp_path, "broken.yaml", "name: A\nbandwith: 1\n")
    write(tmp_path, "lab.yaml", CARD)
    write(tmp_path, "nvidia-t4.yaml", CARD)
    listed = {each.profile: each for each in list_hardware([tmp_path])}
    assert set(listed) == {*PROFILES, "broken", "lab"}
    assert listed["broken"].hardware is None
    assert "bandwith" in (listed["broken"].problem or "")
    assert (listed["lab"].origin, listed["nvidia-t4"].origin, listed["nvidia-a10"].origin) == (
        "option",
        "option",
        "built-in",
    )
    replaced = listed["nvidia-t4"].hardware
    assert replaced is not None
    assert replaced.name == "My card"


def test_folders_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("option", "first", "second", "config/moeplan/profiles"):
        write(tmp_path / name, "lab.yaml", CARD.replace("My card", name))
    environment = os.pathsep.join(str(tmp_path / name) for name in ("first", "second"))
    monkeypatch.setenv("MOEPLAN_PROFILES", environment)
    folders = profile_folders("hardware", [tmp_path / "option"])
    assert [folder.origin for folder in folders] == ["option", "environment", "environment", "user", "built-in"]
    assert find_hardware("lab", [tmp_path / "option"])[0].name == "option"
    assert find_hardware("lab")[0].name == "first"
    monkeypatch.delenv("MOEPLAN_PROFILES")
    assert find_hardware("lab")[0].name == "config/moeplan/profiles"


def test_a_named_folder_must_exist_and_may_lack_a_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "lab.yaml", CARD)
    assert [folder.origin for folder in profile_folders("hardware", [tmp_path])] == ["option", "built-in"]
    (tmp_path / "only-models" / "models").mkdir(parents=True)
    assert [folder.origin for folder in profile_folders("hardware", [tmp_path / "only-models"])] == ["built-in"]
    with pytest.raises(InputError, match=r"--profiles: .*absent is not a folder"):
        find_hardware("h100", [tmp_path / "absent"])
    monkeypatch.setenv("MOEPLAN_PROFILES", str(tmp_path / "absent"))
    with pytest.raises(InputError, match=r"MOEPLAN_PROFILES: .*absent is not a folder"):
        find_hardware("h100")


def test_the_users_folder_of_each_platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_config_folder() == tmp_path / "config" / "moeplan" / "profiles"
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")
    assert user_config_folder() == tmp_path / ".config" / "moeplan" / "profiles"
    monkeypatch.delenv("XDG_CONFIG_HOME")
    assert user_config_folder() == tmp_path / ".config" / "moeplan" / "profiles"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert user_config_folder() == tmp_path / "Library" / "Application Support" / "moeplan" / "profiles"
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setenv("APPDATA", str(tmp_path / "roaming"))
    assert user_config_folder() == tmp_path / "roaming" / "moeplan" / "profiles"


def test_the_slow_loader_reads_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(yaml, "CSafeLoader")
    assert read_hardware(BUILTIN / "nvidia-h100-sxm.yaml") == PROFILES["nvidia-h100-sxm"]
    with pytest.raises(InputError, match="given twice"):
        read_hardware(write(tmp_path, "twice.yaml", "name: A\nname: B\n"))


def test_the_index_is_written_whole(tmp_path: Path) -> None:
    write(tmp_path, "lab.yaml", CARD + "aliases: [Lab]\n")
    path = hardware_profiles.write_index(tmp_path / "hardware")
    assert json.loads(path.read_text(encoding="utf-8"))["names"] == {"lab": "lab", "mycard": "lab"}
    assert sorted(each.name for each in path.parent.iterdir()) == ["index.json", "lab.yaml"]
