"""GPUs that a container asks for by resource claims (dynamic resource allocation) and not by number."""

from __future__ import annotations

from moeplan.core.deployed import FileRemark, Quote
from moeplan.sources.deployments.nodes import Node
from moeplan.sources.deployments.objects import find_object
from moeplan.sources.deployments.stream import Stream


def claimed_gpus(container: Node, pod: Node, stream: Stream) -> Quote | FileRemark | None:
    """The GPUs of a container's claims; None where it claims none, a remark where a claim is not in this text.

    Source: resource.k8s.io/v1 and its betas, ResourceClaimTemplate `spec.spec.devices.requests`.
    """
    total = 0
    first: Quote | None = None
    for claim in container.at("resources", "claims"):
        name = claim.at("name").word()
        entry = next((each for each in pod.at("resourceClaims") if each.at("name").word() == name), None)
        template = entry.first("resourceClaimTemplateName", "resourceClaimName") if entry is not None else None
        wanted = template.quote() if template is not None else None
        if wanted is None:
            continue
        found = find_object(stream, ("ResourceClaimTemplate", "ResourceClaim"), wanted.text)
        if found is None:
            return _missing(wanted)
        devices = found.at("spec", "spec", "devices") if "spec" in found.at("spec") else found.at("spec", "devices")
        for request in devices.at("requests"):
            if claim.at("request").there and claim.at("request").word() != request.at("name").word():
                continue
            number = _number(request)
            if number is not None:
                total += number
                first = first or wanted
    return None if first is None else Quote(str(total), first.spot, "inferred", why=f"resource claim {first.text}")


def _number(request: Node) -> int | None:
    """Devices of one request; None for one that is about other devices than GPUs."""
    exact = request.at("exactly") if "exactly" in request else request
    kind = exact.at("deviceClassName").word().lower()
    if "gpu" not in kind or exact.at("allocationMode").word() == "All":
        return None
    count = exact.at("count").quote()
    return 1 if count is None else count.whole_number()


def _missing(name: Quote) -> FileRemark:
    told = f"GPUs are asked for by the resource claim {name.text}, which is not in this text: their number is not known"
    return FileRemark("claim-missing", told, name.spot, "check the whole stream: kustomize build DIR | moeplan check -")
