"""Tensors that are alive, by arithmetic: float32 elements are 4 bytes."""

from __future__ import annotations

import torch

from moeplan.measure.live_tensors import FusedAttention, LiveTensors, storage_bytes, tensor_bytes


def test_a_storage_counts_once_from_birth_to_end() -> None:
    with torch.no_grad(), LiveTensors("cpu") as live:
        whole = torch.zeros(1000)
        view = whole[:10]
        assert (live.now_bytes, live.peak_bytes) == (4000, 4000)
        del whole
        assert live.now_bytes == 4000  # the view keeps all of it
        added = view + 1
        assert live.now_bytes == 4040
        del view
        assert live.now_bytes == 40
        assert live.peak_bytes == 4040
        live.begin()
        assert live.peak_bytes == 40
        del added
    assert live.now_bytes == 0


def test_what_was_there_before_is_left_out_with_its_views() -> None:
    before = torch.ones(64, 64)
    with torch.no_grad(), LiveTensors("cpu") as live:
        row = before[3]
        before.add_(1)
        assert live.now_bytes == 0
        doubled = row * 2
        assert live.now_bytes == 64 * 4
        del doubled


def test_steps_inside_of_an_operation_count() -> None:
    # A product of a batch with a bias: the library makes the product in one step; the weight's transpose is a view.
    x, weight, bias = torch.ones(2, 3, 4), torch.ones(5, 4), torch.ones(5)
    with torch.no_grad(), LiveTensors("cpu") as live:
        result = torch.nn.functional.linear(x, weight, bias)
        assert live.now_bytes == 2 * 3 * 5 * 4 == storage_bytes([result])


def test_lists_of_results_count() -> None:
    with torch.no_grad(), LiveTensors("cpu") as live:
        values, places = torch.ones(8).sort()
        assert live.now_bytes == 8 * 4 + 8 * 8
        del values, places
    assert live.now_bytes == 0


def test_other_devices_are_left_out() -> None:
    with torch.no_grad(), LiveTensors("meta") as live:
        here = torch.ones(8)
        there = torch.ones(8, device="meta")
        assert live.now_bytes == 32
        del here, there


def test_fused_attention_makes_no_scores() -> None:
    heads = torch.ones(1, 2, 50, 8, device="meta")
    with torch.no_grad(), FusedAttention(), LiveTensors("meta") as live:
        result = torch.nn.functional.scaled_dot_product_attention(heads, heads, heads[..., :4])
        assert result.shape == (1, 2, 50, 4)
        assert live.peak_bytes == 2 * 50 * 4 * 4


def test_views_count_what_they_show_and_storages_what_they_keep() -> None:
    whole = torch.zeros(100, dtype=torch.bfloat16)
    assert tensor_bytes([whole[:10], whole[90:]]) == 40
    assert storage_bytes([whole[:10], whole[90:]]) == 200
    assert tensor_bytes([whole, whole]) == 200
