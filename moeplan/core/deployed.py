"""What a deployment file says: engines that somebody means to run, each value with the place where it stands.

Nothing here is judged. A reader of one kind of file makes these records, `check` joins them with a policy and asks
`estimate`.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple

from moeplan.core.deployment import Origin

Role = Literal["aggregate", "prefill", "decode"]
"""Whether an engine does both phases of a request, or one of them beside other engines that do the other."""
Severity = Literal["error", "warning", "info"]


class Spot(NamedTuple):
    """A place in a file."""

    line: int
    """From 1."""
    column: int = 1
    """From 1."""
    path: str = ""
    """Keys that lead there: `spec.template.spec.containers[0].args[3]`; empty in files without keys."""


class PutIn(NamedTuple):
    """A part of a text that stands elsewhere: a value in the place of its variable."""

    start: int
    """In the text, from 0."""
    end: int
    first: int
    """In the text as the file has it: the variable."""
    last: int


class Quote(NamedTuple):
    """A text of a file: the word that an engine will see, and where it stands."""

    text: str
    """With its variables expanded. Never a secret: those are `***`."""
    spot: Spot
    origin: Origin = "stated"
    """`stated` in the file; `inferred` from another value of it; `default` of the kind of file; `unresolved` where a part
    is not to be known from the file."""
    unknown: tuple[str, ...] = ()
    """The parts that are not to be known, as they stand in the file (`${TP}`); the text holds them as they stand."""
    why: str = ""
    """How it was found, where that is not plain: `variable MODEL_PATH`, `ConfigMap llm-config`."""
    put_in: tuple[PutIn, ...] = ()
    """Parts of the text that the file does not have there, in their order; nobody needs them once a file is read."""

    @property
    def known(self) -> bool:
        """True where nothing of it is left open."""
        return not self.unknown

    def whole_number(self) -> int | None:
        """The text as a number of zero or more; None where it is none, or not known."""
        text = self.text.strip()
        return int(text) if self.known and text.isdecimal() and len(text) < 10 else None


class FileRemark(NamedTuple):
    """Something about a file or a deployment that a reader wants to be known."""

    code: str
    """One of `REMARKS`."""
    message: str
    """One line, printable, without secrets."""
    spot: Spot
    hint: str = ""
    """The way out, where there is one."""


Effect = Literal["broken", "unrendered", "missing", "model", "told", "own"]
"""What a remark does to the verdict. `broken`: something cannot be read, which is a fault. `unrendered`, `missing`: what is
deployed is not known in full, so that nothing can be verified. `model`: the model is not known, unless somebody states it.
`told`: the verdict stands, and is on the safe side. `own`: a rule of its own decides."""


class RemarkKind(NamedTuple):
    """What a code of remarks stands for."""

    effect: Effect
    meaning: str


REMARKS: Mapping[str, RemarkKind] = {
    "base-missing": RemarkKind("missing", "a base or template that an object names is not in the text"),
    "chart-refuses": RemarkKind("own", "a chart would not render the layout"),
    "claim-missing": RemarkKind("missing", "a resource claim, which says the number of GPUs, is not in the text"),
    "config-elsewhere": RemarkKind("missing", "an LLM is described in a file that is not read"),
    "config-map-missing": RemarkKind("missing", "a ConfigMap, or a key of it, is in no text that is read"),
    "config-map-unclear": RemarkKind("missing", "ConfigMaps of one name in several files differ"),
    "context-not-stated": RemarkKind("told", "Ollama picks a length; the model's own, which is the longest, is judged"),
    "directive-broken": RemarkKind("broken", "a comment `# moeplan:` that cannot be meant"),
    "engine-unknown": RemarkKind("missing", "a component asks for GPUs and starts nothing that is known"),
    "env-file-elsewhere": RemarkKind("told", "variables of a file are left out, which hardly say anything of memory"),
    "extends-elsewhere": RemarkKind("missing", "a service extends one of a file that is not read"),
    "file-binary": RemarkKind("broken", "a binary file"),
    "file-broken": RemarkKind("broken", "no YAML from some line on, or more than any deployment has"),
    "file-encoding": RemarkKind("broken", "a file of an unknown encoding"),
    "file-too-large": RemarkKind("broken", "a file of more than is read"),
    "file-unreadable": RemarkKind("broken", "a file that the system does not open"),
    "gpu-shared": RemarkKind("missing", "a part of a card's memory is asked for, and the whole card is judged"),
    "key-twice": RemarkKind("own", "a key that is given twice"),
    "kustomization": RemarkKind("unrendered", "an overlay whose patches are judged as they stand"),
    "link-loop": RemarkKind("broken", "a link that leads to itself"),
    "not-rendered": RemarkKind("unrendered", "a template"),
    "nothing-recognised": RemarkKind("own", "a named file of another program"),
    "ollama-library": RemarkKind("model", "a name of Ollama's library, which is no Hub id"),
    "patch-incomplete": RemarkKind("missing", "a patch without its base"),
    "quantised-at-build": RemarkKind(
        "told", "weights get smaller when the engine is built; they are judged as they are"
    ),
    "recipe": RemarkKind("told", "an entry of a catalogue, which deploys nothing"),
    "runtime-missing": RemarkKind("missing", "a ServingRuntime, which sets flags, is not in the text"),
    "served-name-differs": RemarkKind("model", "a served name that names another checkpoint than the path does"),
    "swap-matrix": RemarkKind("missing", "which models run beside each other is not read"),
}
"""Every remark that readers make."""


class Gang(NamedTuple):
    """How many GPUs one engine gets, and how often it runs; None where the file does not say."""

    gpus_per_pod: Quote | None = None
    pods_per_engine: Quote | None = None
    """Pods (hosts, nodes) that one engine spans; None is one."""
    replicas: Quote | None = None
    """Engines of this kind; None is one."""
    max_replicas: Quote | None = None
    """Where an autoscaler may run more."""

    @property
    def gpus_per_engine(self) -> int | None:
        """GPUs that one engine gets; None where the file does not say."""
        gpus = self.gpus_per_pod.whole_number() if self.gpus_per_pod is not None else None
        pods = 1 if self.pods_per_engine is None else self.pods_per_engine.whole_number()
        return None if gpus is None or pods is None else gpus * pods


class Lines(NamedTuple):
    """Lines of a file, both ends among them."""

    first: int = 0
    last: int = 10**9

    def __contains__(self, line: object) -> bool:
        return isinstance(line, int) and self.first <= line <= self.last

    def inside(self, other: "Lines") -> "Lines":
        """Those that both have."""
        return Lines(max(self.first, other.first), min(self.last, other.last))


class Deployed(NamedTuple):
    """One engine as a file deploys it."""

    kind: str
    """`k8s.deployment`, `compose`, `ray.rayservice`, ...: the reader's name."""
    name: str
    """As the file names it: `decode`; a file without names gives its own."""
    spot: Spot
    """Where it begins: its own key or dash, else its document or object."""
    engine: str | None = None
    """A name of `engines.ENGINES`; None where the file does not tell."""
    engine_version: Quote | None = None
    """As the image's tag says it; None where the tag is no version."""
    image: Quote | None = None
    command: tuple[Quote, ...] = ()
    """The engine's own words as a shell hands them over: program first where there is one, model, flags. What the file says
    in keys of its own (`tensorParallelSize: 2`) stands here in the engine's words (`--tensor-parallel-size 2`)."""
    variables: Mapping[str, Quote] = {}
    """Environment of the engine; secrets are `***`."""
    model: Quote | None = None
    """The model where the file names it outside the command (`storageUri`, `model_source`), or where the command's path was
    traced to a Hub id; None leaves it to the command."""
    revision: Quote | None = None
    """As `model`: a revision stated outside the command."""
    served_names: tuple[Quote, ...] = ()
    gpu: Quote | None = None
    """The type of the GPUs as the file spells it: `NVIDIA-H100-80GB-HBM3`, `H100`, `g5.8xlarge`."""
    gang: Gang = Gang()
    role: Role = "aggregate"
    device_ids: tuple[str, ...] = ()
    """Cards by number or UUID, where the file picks them; engines of one host that pick the same share them."""
    host: str = ""
    """What engines of this file share a machine under, where they do: a compose file, a pod; empty for a machine of its own."""
    not_at_once: str = ""
    """Engines of one such group never run at the same time (llama-swap); empty for those that do."""
    annotations: Mapping[str, Quote] = {}
    """`moeplan/...` annotations of the object."""
    remarks: tuple[FileRemark, ...] = ()
    within: Lines = Lines()
    """Its document, or its object of a list; all lines of a file without documents."""


class Directive(NamedTuple):
    """A comment that speaks to moeplan: `# moeplan: ignore[FIT001] reason` or `# moeplan: gpu=h200`."""

    spot: Spot
    about_line: int
    """The line that it is about: its own where it stands behind something, else the next one with anything on it."""
    ignored: tuple[str, ...] = ()
    """Codes or prefixes whose findings are left out."""
    reason: str = ""
    settings: Mapping[str, str] = {}
    """What is stated in the file's stead: `gpu`, `model`, `revision`, `engine_version`, ..."""
    whole_file: bool = False
    """True for a comment above the first key; else it is about the deployment and the line that it stands at."""


class PlainSecret(NamedTuple):
    """An access token in plain text; its value is never kept."""

    name: str
    spot: Spot


class FileRead(NamedTuple):
    """What was found in one file."""

    path: str
    """As it is shown: relative to where moeplan runs, with forward slashes; `-` for standard input."""
    recognised: bool
    """False for a file of another program."""
    deployments: tuple[Deployed, ...] = ()
    remarks: tuple[FileRemark, ...] = ()
    directives: tuple[Directive, ...] = ()
    secrets: tuple[PlainSecret, ...] = ()
    passed_over: tuple[str, ...] = ()
    """Names of what runs no engine (`Frontend`), or is switched off (`enabled: false`)."""
