"""What stands around the routed experts of a layer: shared experts and latent projections. Letters as in `tensors`."""
# ruff: noqa: N803, N806 - names end in the letters of their shapes

from collections.abc import Callable
from typing import Any

from torch import Tensor  # noqa: TID253
from torch.nn import functional as F  # noqa: N812, TID253

from moeplan.measure.experts.tensors import ExpertWeights, Routing, activate

Run = Callable[[Any, Tensor, Routing], Tensor]
"""`run` of a backend."""


def run_layer(run: Run, prepared: Any, around: ExpertWeights, x_TH: Tensor, routing: Routing) -> Tensor:
    """y_TH: routed experts by a backend, on latents where the layer has them, plus the shared experts on the tokens.

    The order of Nemotron 3 (NemotronHMoE of transformers 5.23.0) and, without latents, of DeepSeek's layers.
    """
    x_TD = x_TH if around.latent_down_DH is None else F.linear(x_TH, around.latent_down_DH.to(x_TH.dtype))
    y_TD = run(prepared, x_TD, routing)
    y_TH = y_TD if around.latent_up_HD is None else F.linear(y_TD, around.latent_up_HD.to(x_TH.dtype))
    if around.shared_w13_UH is None or around.shared_w2_HS is None:
        return y_TH
    shared_TS = activate(F.linear(x_TH, around.shared_w13_UH.to(x_TH.dtype)), around.gated)
    return y_TH + F.linear(shared_TS, around.shared_w2_HS.to(x_TH.dtype))
