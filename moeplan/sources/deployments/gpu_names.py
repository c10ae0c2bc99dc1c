"""Which GPU a pod asks for: node labels, affinities, and the types of machines of clouds."""

from __future__ import annotations

import re
from collections.abc import Mapping

from moeplan.core.deployed import Quote
from moeplan.sources.deployments.nodes import Node


def _sizes(prefix: str, gpu: str, counts: Mapping[str, int]) -> dict[str, tuple[str, int]]:
    return {f"{prefix}{size}": (gpu, count) for size, count in counts.items()}


_G_SIZES = {
    "xlarge": 1, "2xlarge": 1, "4xlarge": 1, "8xlarge": 1, "16xlarge": 1, "12xlarge": 4, "24xlarge": 4, "48xlarge": 8,
}  # fmt: skip

# AWS: docs.aws.amazon.com/ec2/latest/instancetypes/ac.html, and the table of docs.aws.amazon.com/batch/latest/userguide/
# gpu-jobs.html. Google: cloud.google.com/compute/docs/gpus. Azure: learn.microsoft.com/azure/virtual-machines/sizes/
# gpu-accelerated. Oracle: docs.oracle.com/iaas/Content/Compute/References/computeshapes.htm.
INSTANCES: Mapping[str, tuple[str, int]] = {
    "p3.2xlarge": ("V100-SXM2-16GB", 1),
    "p3.8xlarge": ("V100-SXM2-16GB", 4),
    "p3.16xlarge": ("V100-SXM2-16GB", 8),
    "p3dn.24xlarge": ("V100-SXM2-32GB", 8),
    "p4d.24xlarge": ("A100-SXM4-40GB", 8),
    "p4de.24xlarge": ("A100-SXM4-80GB", 8),
    "p5.4xlarge": ("H100-SXM", 1),
    "p5.48xlarge": ("H100-SXM", 8),
    "p5e.48xlarge": ("H200", 8),
    "p5en.48xlarge": ("H200", 8),
    "p6-b200.48xlarge": ("B200", 8),
    "p6-b300.48xlarge": ("B300", 8),
    "p6e-gb200.36xlarge": ("GB200", 4),
    **_sizes(
        "g4dn.", "T4", {"xlarge": 1, "2xlarge": 1, "4xlarge": 1, "8xlarge": 1, "16xlarge": 1, "12xlarge": 4, "metal": 8}
    ),
    **_sizes("g5.", "A10G", _G_SIZES),
    **_sizes("g6.", "L4", _G_SIZES),
    **_sizes("gr6.", "L4", {"4xlarge": 1, "8xlarge": 1}),
    **_sizes("g6e.", "L40S", _G_SIZES),
    **_sizes("a2-highgpu-", "A100-SXM4-40GB", {"1g": 1, "2g": 2, "4g": 4, "8g": 8}),
    "a2-megagpu-16g": ("A100-SXM4-40GB", 16),
    **_sizes("a2-ultragpu-", "A100-SXM4-80GB", {"1g": 1, "2g": 2, "4g": 4, "8g": 8}),
    **_sizes("a3-highgpu-", "H100-SXM", {"1g": 1, "2g": 2, "4g": 4, "8g": 8}),
    "a3-megagpu-8g": ("H100-SXM", 8),
    "a3-edgegpu-8g": ("H100-SXM", 8),
    "a3-ultragpu-8g": ("H200", 8),
    "a4-highgpu-8g": ("B200", 8),
    "a4x-highgpu-4g": ("GB200", 4),
    **_sizes("g2-standard-", "L4", {"4": 1, "8": 1, "12": 1, "16": 1, "32": 1, "24": 2, "48": 4, "96": 8}),
    **_sizes("g4-standard-", "RTX PRO 6000", {"48": 1, "96": 2, "192": 4, "384": 8}),
    "standard_nd96asr_v4": ("A100-SXM4-40GB", 8),
    "standard_nd96amsr_a100_v4": ("A100-SXM4-80GB", 8),
    "standard_nd96isr_h100_v5": ("H100-SXM", 8),
    "standard_nd96isr_h200_v5": ("H200", 8),
    "standard_nd96isr_mi300x_v5": ("MI300X", 8),
    "standard_nd128isr_ndr_gb200_v6": ("GB200", 4),
    "standard_nd128isr_gb300_v6": ("GB300", 4),
    "standard_nc24ads_a100_v4": ("A100-PCIE-80GB", 1),
    "standard_nc48ads_a100_v4": ("A100-PCIE-80GB", 2),
    "standard_nc96ads_a100_v4": ("A100-PCIE-80GB", 4),
    "standard_nc40ads_h100_v5": ("H100-NVL", 1),
    "standard_nc80adis_h100_v5": ("H100-NVL", 2),
    "standard_nc4as_t4_v3": ("T4", 1),
    "standard_nc8as_t4_v3": ("T4", 1),
    "standard_nc16as_t4_v3": ("T4", 1),
    "standard_nc64as_t4_v3": ("T4", 4),
    "standard_nv36ads_a10_v5": ("A10", 1),
    "standard_nv72ads_a10_v5": ("A10", 2),
    "bm.gpu4.8": ("A100-SXM4-40GB", 8),
    "bm.gpu.a100-v2.8": ("A100-SXM4-80GB", 8),
    "bm.gpu.h100.8": ("H100-SXM", 8),
    "bm.gpu.h200.8": ("H200", 8),
    "bm.gpu.b200.8": ("B200", 8),
    "bm.gpu.mi300x.8": ("MI300X", 8),
    "bm.gpu.l40s.4": ("L40S", 4),
    "vm.gpu.a10.1": ("A10", 1),
    "vm.gpu.a10.2": ("A10", 2),
    "bm.gpu.a10.4": ("A10", 4),
}
"""Machine types of clouds, in small letters: the GPU inside, and how many."""

_FAMILIES: Mapping[str, str] = {
    "p4d": "A100-SXM4-40GB", "p4de": "A100-SXM4-80GB", "p5": "H100-SXM", "p5e": "H200", "p5en": "H200", "p6-b200": "B200",
    "p6-b300": "B300", "g4dn": "T4", "g5": "A10G", "g6": "L4", "gr6": "L4", "g6e": "L40S",
}  # fmt: skip
"""`karpenter.k8s.aws/instance-family`."""

PRODUCT_LABELS: Mapping[str, str] = {"nvidia": "nvidia.com/gpu.product", "amd": "amd.com/gpu.product-name"}
"""By vendor: the label that the vendor's own discovery puts on a node."""

_NAMES = (
    PRODUCT_LABELS["nvidia"],
    "cloud.google.com/gke-accelerator",
    PRODUCT_LABELS["amd"],
    "beta.amd.com/gpu.product-name",
    "gpu.nvidia.com/class",
    "gpu.nvidia.com/model",
    "k8s.amazonaws.com/accelerator",
    "karpenter.k8s.aws/instance-gpu-name",
    "eks.amazonaws.com/instance-gpu-name",
    "skypilot.co/accelerator",
    "cloud.google.com/gke-tpu-accelerator",
    "karpenter.k8s.aws/instance-family",
    "eks.amazonaws.com/instance-family",
    "node.kubernetes.io/instance-type",
    "beta.kubernetes.io/instance-type",
)
"""Labels that tell of the GPU, the surest first."""
_LOOSE = re.compile(
    r"(?:^|[/._-])(?:accelerator|accelerator-type|gpu|gpu-?(?:type|model|name|class|product))$", re.IGNORECASE
)
"""Labels of a cluster's own; believed where the value looks like a GPU."""
_GPU = re.compile(
    r"(?:nvidia|amd|instinct|tesla|geforce|hgx)?[-_ ]*(?:[bhalvtp]\d{1,3}[a-z]?|gb\d{2,3}|gh200|mi\d{3}[a-z]?|rtx.*\d{4}.*|gaudi\d)"
    r"(?:[-_ ].*)?",
    re.IGNORECASE,
)
_MARKS = re.compile(r"(?:-SHARED|-MIG-INVALID)$")


# As the driver names the device, with dashes for blanks (NVIDIA/k8s-device-plugin: internal/lm/resource.go), or with
# underscores (ROCm/k8s-device-plugin: cmd/k8s-node-labeller).
_PRODUCTS: Mapping[str, str] = {
    "nvidia-a10": "NVIDIA-A10",
    "nvidia-a100-pcie-40gb": "NVIDIA-A100-PCIE-40GB",
    "nvidia-a100-pcie-80gb": "NVIDIA-A100-80GB-PCIe",
    "nvidia-a100-sxm-40gb": "NVIDIA-A100-SXM4-40GB",
    "nvidia-a100-sxm-80gb": "NVIDIA-A100-SXM4-80GB",
    "nvidia-a10g": "NVIDIA-A10G",
    "nvidia-a30": "NVIDIA-A30",
    "nvidia-a40": "NVIDIA-A40",
    "nvidia-b200-sxm": "NVIDIA-B200",
    "nvidia-gb200": "NVIDIA-GB200",
    "nvidia-gh200-96gb": "NVIDIA-GH200-480GB",
    "nvidia-h100-nvl": "NVIDIA-H100-NVL",
    "nvidia-h100-pcie": "NVIDIA-H100-PCIe",
    "nvidia-h100-sxm": "NVIDIA-H100-80GB-HBM3",
    "nvidia-h20": "NVIDIA-H20",
    "nvidia-h200-sxm": "NVIDIA-H200",
    "nvidia-l4": "NVIDIA-L4",
    "nvidia-l40": "NVIDIA-L40",
    "nvidia-l40s": "NVIDIA-L40S",
    "nvidia-rtx-3090": "NVIDIA-GeForce-RTX-3090",
    "nvidia-rtx-4090": "NVIDIA-GeForce-RTX-4090",
    "nvidia-rtx-5090": "NVIDIA-GeForce-RTX-5090",
    "nvidia-rtx-6000-ada": "NVIDIA-RTX-6000-Ada-Generation",
    "nvidia-rtx-a6000": "NVIDIA-RTX-A6000",
    "nvidia-rtx-pro-6000-blackwell-server": "NVIDIA-RTX-PRO-6000-Blackwell-Server-Edition",
    "nvidia-t4": "Tesla-T4",
    "nvidia-v100-sxm-16gb": "Tesla-V100-SXM2-16GB",
    "nvidia-v100-sxm-32gb": "Tesla-V100-SXM2-32GB",
    "amd-mi300x": "AMD_Instinct_MI300X_OAM",
}
"""Values of these labels by hardware profile; a device whose own name nobody has seen is left out."""
_SLICED = re.compile(r"-mig-")


def product_label(profile: str) -> tuple[str, str] | None:
    """The node label that this device has, as `gpu_of_pod` reads it; None where it is not known. A slice has its card's."""
    card = _SLICED.split(profile)[0]
    product = _PRODUCTS.get(card)
    return None if product is None else (PRODUCT_LABELS[card.partition("-")[0]], product)


def gpu_of_pod(spec: Node) -> Quote | None:
    """From `nodeSelector` and required node affinities: `nvidia.com/gpu.product`, `cloud.google.com/gke-accelerator`,
    `node.kubernetes.io/instance-type`, ...; the text is what a hardware profile is found by. None where it is not said;
    several values leave it unresolved, with all of them in `unknown`.
    """
    selected = {key: (value,) for key, node in spec.at("nodeSelector").entries.items() if (value := node.quote())}
    affinity = spec.at(
        "affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution", "nodeSelectorTerms"
    )
    return _surest(selected) or gpu_of_terms(affinity)


def gpu_of_terms(terms: Node) -> Quote | None:
    """From a list of node selector terms (`matchExpressions` with the operator `In`), as `gpu_of_pod` does."""
    found: dict[str, tuple[Quote, ...]] = {}
    for term in terms:
        for expression in term.at("matchExpressions"):
            if expression.at("operator").word() == "In":
                values = tuple(value for node in expression.at("values") if (value := node.quote()))
                key = expression.at("key").word()
                found[key] = (*found.get(key, ()), *values)
    return _surest(found)


def gpu_of_label(key: str, value: Quote) -> Quote | None:
    """The GPU that one node label names; None for labels about something else."""
    text = value.text.strip()
    if key.endswith("instance-type"):
        return gpu_of_instance(value)
    if key.endswith(("aws/instance-family", "amazonaws.com/instance-family")):
        gpu = _FAMILIES.get(text.lower())
        return Quote(gpu, value.spot, "inferred", value.unknown, f"{text} machines") if gpu else None
    if key in _NAMES or (_LOOSE.search(key) and _GPU.fullmatch(text)):
        return value._replace(text=gpu_name(text))
    return None


def gpu_of_instance(value: Quote) -> Quote | None:
    """The GPU of a cloud's machine type; None for one that has none, or is not known."""
    found = INSTANCES.get(value.text.strip().lower())
    return Quote(found[0], value.spot, "inferred", value.unknown, f"inside {value.text.strip()}") if found else None


def gpu_name(text: str) -> str:
    """A label's spelling as hardware profiles are found by; what needs no change stays as it is."""
    text = _MARKS.sub("", text.strip())
    if "NVLINK" in text:  # CoreWeave: H100_NVLINK_80GB, A100_NVLINK_80GB
        text = text.replace("NVLINK", "SXM")
    if re.fullmatch(r"(?i)h[12]00[-_]sxm[-_]\d+gb", text):
        text = text[:8]
    return re.sub(r"(?i)^(?:nvidia[-_])?(?:hgx|dgx)[-_](?=[abh]\d)", "", text)


def _surest(labels: Mapping[str, tuple[Quote, ...]]) -> Quote | None:
    """What the surest label tells."""
    order = {name: number for number, name in enumerate(_NAMES)}
    for key in sorted(labels, key=lambda key: (order.get(key, len(order)), key)):
        found = [gpu for value in labels[key] if (gpu := gpu_of_label(key, value)) is not None]
        texts = tuple(dict.fromkeys(gpu.text for gpu in found))
        if len(texts) == 1:
            return found[0]
        if texts:
            return Quote(", ".join(texts), found[0].spot, "unresolved", texts, f"{key} allows several")
    return None
