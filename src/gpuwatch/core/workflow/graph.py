"""A workflow's nodes and links, the same for both forms: what the server is sent (API), and what the editor saves (UI).

A UI node's own value is told apart from one that arrives over a link; links are followed through reroutes and across the
borders of subgraphs. A node within a subgraph is named as the server names it when it fails: `12:5` is node 5 of what node 12
stands for. Positions of values, colours, groups and the like are not looked at.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from gpuwatch.core.workflow.places import Path
from gpuwatch.texts import Text, text

Form = Literal["api", "ui"]

MOST_NODES = 50_000
_DEEPEST = 24
_LONGEST_CHAIN = 200
_INPUT_NODE, _OUTPUT_NODE = -10, -20
_NEVER, _BYPASS = 2, 4
_PASS_ON = frozenset({"Reroute", "Reroute (rgthree)"})
_SHOW_ONLY = frozenset({"Note", "MarkdownNote"})


class NotWorkflow(Exception):  # noqa: N818 - the answer to a question, not a failure of ours
    """The value is no workflow; `why` says what it looks like."""

    def __init__(self, why: Text) -> None:
        super().__init__(why)
        self.why = why


@dataclass(frozen=True, slots=True)
class Node:
    """One node that runs, or that stands for a subgraph."""

    id: str
    type: str
    """Its class; for a subgraph the subgraph's name."""
    title: str | None
    place: Path
    """Where it stands in the workflow's JSON."""
    raw: Mapping[str, Any]
    scope: str = ""
    """The node that its subgraph stands for, with a colon; empty at the root."""
    subgraph: str | None = None
    muted: bool = False
    """Switched off or bypassed: it does not run."""
    copies: int = 1
    """How often its subgraph is used: its values are those of all."""


@dataclass(frozen=True, slots=True)
class Border:
    """A link that comes into a subgraph from outside: the node that stands for it, and the name of its input."""

    node: Node
    input: str


@dataclass(frozen=True, slots=True)
class Workflow:
    """A workflow, and the JSON that it is read from."""

    form: Form
    value: Any
    nodes: tuple[Node, ...]
    ambiguous: frozenset[str] = frozenset()
    """Ids that two nodes of one graph have, and those of nodes within one of these."""
    subgraphs: Mapping[str, tuple[Path, Mapping[str, Any]]] = field(default_factory=dict)
    _by_id: Mapping[str, Node] = field(default_factory=dict)
    _links: Mapping[str, Mapping[Any, tuple[Any, int]]] = field(default_factory=dict)
    """For each graph of the UI form, its links: from where they come."""

    def node(self, node_id: str) -> Node | None:
        """The node of that id."""
        return self._by_id.get(node_id)

    def of_type(self, *types: str) -> list[Node]:
        """The nodes of these types that run."""
        return [node for node in self.nodes if node.type in types and not node.muted and node.subgraph is None]

    def linked_inputs(self, node: Node) -> list[str]:
        """The inputs that arrive over a link."""
        if self.form == "api":
            return [name for name, value in _mapping(node.raw.get("inputs")).items() if is_link(value)]
        return [entry["name"] for entry in _inputs(node) if entry.get("link") is not None]

    def source(self, node: Node, name: str) -> Node | Border | None:
        """Where a linked input comes from, through reroutes and subgraphs; None where it has no link."""
        return self._source(node, name, 0)

    def _source(self, node: Node, name: str, hops: int) -> Node | Border | None:
        if hops > _LONGEST_CHAIN:
            return None
        if self.form == "api":
            value = _mapping(node.raw.get("inputs")).get(name)
            return self._by_id.get(str(value[0])) if isinstance(value, list) and is_link(value) else None
        entry = next((entry for entry in _inputs(node) if entry["name"] == name), None)
        link = self._links.get(self._graph_of(node), {}).get(entry.get("link")) if entry else None
        return self._from(node.scope, link, hops) if link else None

    def _graph_of(self, node: Node) -> str:
        return self._graph_of_scope(node.scope)

    def _graph_of_scope(self, scope: str) -> str:
        host = self._by_id.get(scope[:-1]) if scope else None
        return host.subgraph or "" if host else ""

    def _from(self, scope: str, link: tuple[Any, int], hops: int) -> Node | Border | None:
        origin, slot = link
        if origin == _INPUT_NODE and scope:
            host = self._by_id[scope[:-1]]
            if host.subgraph is None:  # another node has the id of the one that stands for the subgraph
                return None
            shown = _list(self.subgraphs[host.subgraph][1].get("inputs"))
            name = _mapping(shown[slot]).get("name") if 0 <= slot < len(shown) else None
            if not isinstance(name, str):
                return None
            return self._source(host, name, hops + 1) or Border(host, name)
        node = self._by_id.get(f"{scope}{origin}")
        if node is None:
            return None
        if node.subgraph is not None:
            ends = self._links.get(node.subgraph, {}).get((_OUTPUT_NODE, slot))
            return self._from(f"{node.id}:", ends, hops + 1) if ends and hops <= _LONGEST_CHAIN else None
        if node.type in _PASS_ON or node.raw.get("mode") == _BYPASS:
            first = next((entry["name"] for entry in _inputs(node) if entry.get("link") is not None), None)
            return self._source(node, first, hops + 1) if first is not None else None
        return node

    def consumers(self, node: Node) -> list[tuple[Node, str]]:
        """The inputs that a node feeds."""
        return [
            (other, name)
            for other in self.nodes
            if other.subgraph is None and other.type not in _PASS_ON
            for name in self.linked_inputs(other)
            if self.source(other, name) is node
        ]


def is_link(value: Any) -> bool:
    """Whether an input's value in the API form is a link: the other node's id and the number of its output."""
    return (
        isinstance(value, list)
        and len(value) == 2
        and isinstance(value[0], str | int)
        and isinstance(value[1], int)
        and not isinstance(value[1], bool)
        and not isinstance(value[0], bool)
    )


def read_workflow(value: Any) -> Workflow:
    """Read a workflow's JSON. Raises NotWorkflow, with what it looks like, where it is none."""
    if not isinstance(value, dict):
        raise NotWorkflow(_looks_like(value))
    if isinstance(value.get("nodes"), list) and all(isinstance(node, dict) for node in value["nodes"]):
        return _read_ui(value, ())
    if _is_api(value):
        return _read_api(value, ())
    prompt = value.get("prompt")
    if isinstance(prompt, dict) and _is_api(prompt):
        return _read_api(value, ("prompt",))
    raise NotWorkflow(_looks_like(value))


def _is_api(value: Mapping[str, Any]) -> bool:
    """Whether these are nodes by their ids; keys such as `extra_data` may stand beside them."""
    nodes = [node for node in value.values() if isinstance(node, dict) and isinstance(node.get("class_type"), str)]
    return bool(nodes) and len(nodes) * 2 >= len(value)


def _read_api(value: Mapping[str, Any], root: Path) -> Workflow:
    graph = value["prompt"] if root else value
    nodes = []
    for node_id, raw in graph.items():
        if not isinstance(raw, dict) or not isinstance(raw.get("class_type"), str):
            continue
        title = _mapping(raw.get("_meta")).get("title")
        nodes.append(Node(node_id, raw["class_type"], title if isinstance(title, str) else None, (*root, node_id), raw))
    _bound(len(nodes))
    return Workflow("api", value, tuple(nodes), _by_id={node.id: node for node in nodes})


def _read_ui(value: Mapping[str, Any], root: Path) -> Workflow:
    subgraphs: dict[str, tuple[Path, Mapping[str, Any]]] = {}
    for number, subgraph in enumerate(_list(_mapping(value.get("definitions")).get("subgraphs"))):
        if isinstance(subgraph, dict) and isinstance(subgraph.get("id"), str):
            subgraphs[subgraph["id"]] = ((*root, "definitions", "subgraphs", number), subgraph)
    nodes: list[Node] = []
    ambiguous: set[str] = set()
    for node in _ui_nodes(value, root, "", subgraphs, 0, muted=False):
        nodes.append(node)
        _bound(len(nodes))
    by_id: dict[str, Node] = {}
    for node in nodes:
        if node.id in by_id or node.scope[:-1] in ambiguous:
            ambiguous.add(node.id)
        by_id.setdefault(node.id, node)
    used: dict[Path, int] = {}
    for node in nodes:
        used[node.place] = used.get(node.place, 0) + 1
    nodes = [
        Node(n.id, n.type, n.title, n.place, n.raw, n.scope, n.subgraph, n.muted, used[n.place])
        if used[n.place] > 1
        else n
        for n in nodes
    ]
    links = {"": _links(value), **{name: _links(graph) for name, (_place, graph) in subgraphs.items()}}
    return Workflow(
        "ui", value, tuple(nodes), frozenset(ambiguous), subgraphs, {node.id: node for node in reversed(nodes)}, links
    )


def _ui_nodes(
    graph: Mapping[str, Any],
    place: Path,
    scope: str,
    subgraphs: Mapping[str, tuple[Path, Mapping[str, Any]]],
    depth: int,
    *,
    muted: bool,
) -> Iterator[Node]:
    if depth > _DEEPEST:
        raise NotWorkflow(text("a workflow whose subgraphs are nested more than {deepest} deep", deepest=_DEEPEST))
    for number, raw in enumerate(_list(graph.get("nodes"))):
        if not isinstance(raw, dict) or not isinstance(raw.get("type"), str) or raw["type"] in _SHOW_ONLY:
            continue
        if not isinstance(raw.get("id"), int | str) or isinstance(raw.get("id"), bool):
            continue
        node_id = f"{scope}{raw['id']}"
        title = raw.get("title") if isinstance(raw.get("title"), str) else None
        off = muted or raw.get("mode") in (_NEVER, _BYPASS)
        inner = subgraphs.get(raw["type"])
        shown = raw["type"]
        if inner is not None and isinstance(inner[1].get("name"), str):
            shown = inner[1]["name"]
        here = (*place, "nodes", number)
        yield Node(node_id, shown, title, here, raw, scope, raw["type"] if inner else None, off)
        if inner is not None:
            yield from _ui_nodes(inner[1], inner[0], f"{node_id}:", subgraphs, depth + 1, muted=off)


def _links(graph: Mapping[str, Any]) -> Mapping[Any, tuple[Any, int]]:
    """From where each link of a graph comes; also what its outputs get, under the output node's id and the slot."""
    found: dict[Any, tuple[Any, int]] = {}
    for link in _list(graph.get("links")):
        if isinstance(link, list) and len(link) >= 5:
            number, origin, slot, target, target_slot = link[:5]
        elif isinstance(link, dict):
            number, origin, slot = link.get("id"), link.get("origin_id"), link.get("origin_slot")
            target, target_slot = link.get("target_id"), link.get("target_slot")
        else:
            continue
        if isinstance(origin, int | str) and isinstance(slot, int) and isinstance(number, int | str):
            found[number] = (origin, slot)
            if target == _OUTPUT_NODE and isinstance(target_slot, int):
                found[_OUTPUT_NODE, target_slot] = (origin, slot)
    return found


def _inputs(node: Node) -> list[Mapping[str, Any]]:
    return [
        entry
        for entry in _list(node.raw.get("inputs"))
        if isinstance(entry, dict)
        and isinstance(entry.get("name"), str)
        and isinstance(entry.get("link"), int | str | None)
    ]


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _bound(count: int) -> None:
    if count > MOST_NODES:
        raise NotWorkflow(text("a workflow of more than {most} nodes", most=f"{MOST_NODES:,}"))


_SHAPES: tuple[tuple[frozenset[str], Text], ...] = (
    (frozenset({"error", "node_errors"}), text("a server's refusal of a prompt")),
    (frozenset({"prompt_id", "number"}), text("a server's answer to a prompt, not the prompt")),
    (frozenset({"queue_running", "queue_pending"}), text("a server's queue")),
    (frozenset({"system", "devices"}), text("a server's /system_stats")),
    (frozenset({"method", "path", "body"}), text("a recorded answer of a server")),
    (frozenset({"node_id", "exception_message"}), text("a failed job; give it with --error")),
    (frozenset({"jobs", "pagination"}), text("a list of jobs")),
    (frozenset({"$schema"}), text("a JSON Schema")),
    (frozenset({"model_type", "architectures"}), text("a model's config.json")),
    (frozenset({"name", "version", "dependencies"}), text("a package.json")),
)


def _looks_like(value: Any) -> Text:
    """What a JSON value that is no workflow seems to be."""
    if not isinstance(value, dict):
        kinds = {list: text("a list"), str: text("a piece of text"), bool: text("true or false")}
        return kinds.get(type(value), text("a number") if isinstance(value, int | float) else text("nothing (null)"))
    if not value:
        return text("an empty object")
    for known, words in _SHAPES:
        if known <= value.keys():
            return words
    entries = [entry for entry in value.values() if isinstance(entry, dict)]
    if entries and all("status" in entry and "prompt" in entry for entry in entries):
        return text("a server's history; give it with --error, and the workflow first")
    if entries and all("input" in entry and "output" in entry for entry in entries):
        return text("a server's /object_info; give it with --object-info")
    keys = ", ".join(sorted(str(key) for key in value)[:5])
    return text("a JSON object with {keys}", keys=keys[:120])
