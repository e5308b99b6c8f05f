"""Both forms of a workflow: nodes, links, subgraphs; and what is no workflow."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gpuwatch.core.workflow.graph import Border, Node, NotWorkflow, read_workflow
from gpuwatch.core.workflow.inputs import Spot, find_input
from gpuwatch.core.workflow.places import at
from gpuwatch.texts import Text, render
from tests.workflows import OURS, TEMPLATES, knowledge, loaded


def spot(value: Any, node_id: str, name: str) -> Spot:
    workflow = read_workflow(value)
    node = workflow.node(node_id)
    assert node is not None
    found = find_input(workflow, node, name, knowledge())
    assert isinstance(found, Spot), render(found)
    return found


def refusal(value: Any, node_id: str, name: str) -> str:
    workflow = read_workflow(value)
    node = workflow.node(node_id)
    assert node is not None
    found = find_input(workflow, node, name, knowledge())
    assert isinstance(found, Text)
    return render(found)


def node(number: int, kind: str, values: Any = None, inputs: list[Any] | None = None, **more: Any) -> dict[str, Any]:
    return {"id": number, "type": kind, "inputs": inputs or [], "widgets_values": values, **more}


def linked(name: str, link: int | None, widget: bool = True) -> dict[str, Any]:
    return {"name": name, "type": "INT", "link": link} | ({"widget": {"name": name}} if widget else {})


@pytest.mark.parametrize("path", [*OURS, *sorted(TEMPLATES.glob("*.json"))], ids=lambda path: path.name)
def test_every_node_is_found_where_it_stands(path: Any) -> None:
    workflow = read_workflow(json.loads(path.read_text()))
    assert workflow.nodes
    for each in workflow.nodes:
        assert at(workflow.value, each.place) is each.raw
        assert workflow.node(each.id) is each


def test_a_node_in_a_subgraph_has_the_id_that_the_server_calls_it_by() -> None:
    workflow = loaded("ddcolor_modelscope_2048_subgraph.ui.json")
    (inner,) = workflow.of_type("DDColor_Colorize")
    assert inner.id == "4:2"
    source = workflow.source(inner, "image")
    assert isinstance(source, Node)
    assert source.type == "LoadImage"
    save = workflow.of_type("SaveImage")[0]
    assert workflow.source(save, "images") is inner


def test_a_prompt_as_it_is_posted_is_a_workflow_too() -> None:
    prompt = json.loads((OURS[0]).read_text())
    workflow = read_workflow({"prompt": prompt, "client_id": "x"})
    assert workflow.form == "api"
    assert all(each.place[0] == "prompt" for each in workflow.nodes)


def test_links_as_objects_and_reroutes_are_followed() -> None:
    value = {
        "version": 1,
        "nodes": [
            node(1, "EmptyLatentImage", [512, 512, 4]),
            node(2, "Reroute", inputs=[{"name": "", "type": "*", "link": 7}]),
            node(3, "KSampler", inputs=[{"name": "latent_image", "type": "LATENT", "link": 8}]),
        ],
        "links": [
            {"id": 7, "origin_id": 1, "origin_slot": 0, "target_id": 2, "target_slot": 0, "type": "LATENT"},
            {"id": 8, "origin_id": 2, "origin_slot": 0, "target_id": 3, "target_slot": 0, "type": "LATENT"},
        ],
    }
    workflow = read_workflow(value)
    sampler = workflow.node("3")
    assert sampler is not None
    assert workflow.source(sampler, "latent_image") is workflow.node("1")
    assert spot(value, "1", "batch_size").value == 4


def test_the_editors_own_value_after_a_seed_shifts_what_follows() -> None:
    values = [1.5, 42, "randomize", 20, 7.0, "euler", "normal", 0.2, "Linear", 768, 1024, 8, 32, "None", 1.0, 64, 8, 16]
    value = {"nodes": [node(5, "UltimateSDUpscale", values)], "links": []}
    assert (spot(value, "5", "tile_width").value, spot(value, "5", "tile_height").value) == (768, 1024)


def test_values_by_name_need_no_order() -> None:
    value = {"nodes": [node(5, "SomeNode", {"frames": 7})], "links": []}
    assert spot(value, "5", "frames").place == ("nodes", 0, "widgets_values", "frames")


def test_a_number_that_arrives_over_a_link_is_changed_where_it_stands() -> None:
    value = {
        "nodes": [
            node(1, "PrimitiveInt", [1024, "fixed"]),
            node(2, "EmptyLatentImage", [512, 512, 1], [linked("width", 9)]),
        ],
        "links": [[9, 1, 0, 2, 0, "INT"]],
    }
    found = spot(value, "2", "width")
    assert (found.node.id, found.value) == ("1", 1024)
    value["nodes"].append(node(3, "EmptyLatentImage", [512, 512, 1], [linked("width", 10)]))
    value["links"].append([10, 1, 0, 3, 0, "INT"])
    assert "PrimitiveInt #1, which feeds width of EmptyLatentImage #3 too" in refusal(value, "2", "width")
    api = {
        "1": {"class_type": "INTConstant", "inputs": {"value": 768}},
        "2": {"class_type": "EmptyLatentImage", "inputs": {"width": ["1", 0], "height": ["9", 0], "batch_size": 1}},
        "9": {"class_type": "GetImageSize", "inputs": {}},
    }
    assert spot(api, "2", "width").place == ("1", "inputs", "value")
    assert "GetImageSize #9 computes it" in refusal(api, "2", "height")


def subgraph(host: dict[str, Any], **inner: Any) -> dict[str, Any]:
    graph = {
        "id": "aaaa", "name": "Make", "inputs": [{"name": "width", "type": "INT", "linkIds": [1]}], "outputs": [],
        "nodes": [node(5, "EmptyLatentImage", [640, 512, 1], [linked("width", 1)])],
        "links": [{"id": 1, "origin_id": -10, "origin_slot": 0, "target_id": 5, "target_slot": 0, "type": "INT"}],
    } | inner  # fmt: skip
    return {
        "nodes": [{"id": 4, "type": "aaaa", "inputs": [], **host}],
        "links": [],
        "definitions": {"subgraphs": [graph]},
    }


@pytest.mark.parametrize(
    ("host", "place"),
    [
        ({"widgets_values": []}, ("definitions", "subgraphs", 0, "nodes", 0, "widgets_values", 0)),
        (
            {"widgets_values": [900], "properties": {"proxyWidgets": [["-1", "width"]]}},
            ("nodes", 0, "widgets_values", 0),
        ),
        (
            {"widgets_values": [None, 900], "properties": {"proxyWidgets": [["5", "height"], ["-1", "width"]]}},
            ("nodes", 0, "widgets_values", 1),
        ),
        (
            {"widgets_values": [900], "properties": {"proxyWidgets": [["5", "height"], ["-1", "width"]]}},
            ("nodes", 0, "widgets_values", 0),
        ),
        ({"widgets_values": [900]}, ("nodes", 0, "widgets_values", 0)),
    ],
)
def test_a_value_that_a_subgraph_shows_is_changed_where_it_is_kept(
    host: dict[str, Any], place: tuple[Any, ...]
) -> None:
    assert spot(subgraph(host), "4:5", "width").place == place


def test_where_a_shown_value_is_kept_is_not_guessed() -> None:
    assert "cannot be told" in refusal(subgraph({"widgets_values": [1, 2, 3]}), "4:5", "width")


def test_the_border_is_told_where_nothing_comes_over_it() -> None:
    workflow = read_workflow(subgraph({"widgets_values": []}))
    inner = workflow.node("4:5")
    assert inner is not None
    assert isinstance(workflow.source(inner, "width"), Border)


def test_values_of_another_version_are_left_alone() -> None:
    for values in ([512, 512], [512, 512, 1, 2], ["512", 512, 1], None):
        words = refusal({"nodes": [node(1, "EmptyLatentImage", values)], "links": []}, "1", "batch_size")
        assert "EmptyLatentImage #1" in words
    assert "--object-info" in refusal({"nodes": [node(1, "Unheard", [1])], "links": []}, "1", "size")


def test_two_nodes_with_one_id_are_not_told_apart() -> None:
    value = {"nodes": [node(1, "EmptyLatentImage", [1, 1, 1]), node(1, "EmptyLatentImage", [2, 2, 2])], "links": []}
    assert "Two nodes have the id 1" in refusal(value, "1", "width")


def test_a_node_in_a_subgraph_whose_id_another_node_has_is_not_told_apart_either() -> None:
    value = subgraph({})
    host = next(entry for entry in value["nodes"] if entry["type"] == "aaaa")
    value["nodes"].insert(0, node(host["id"], "KSampler"))
    value["links"] = [[number, -10, 0, 1, 0, "INT"] for number in range(1, 9)]
    workflow = read_workflow(value)
    inner = next(each for each in workflow.nodes if each.scope)
    assert inner.id in workflow.ambiguous
    assert all(workflow.source(inner, name) is None for name in workflow.linked_inputs(inner))
    assert isinstance(find_input(workflow, inner, "width", knowledge()), Text)


def test_subgraphs_within_themselves_come_to_an_end() -> None:
    value = subgraph({})
    value["definitions"]["subgraphs"][0]["nodes"].append({"id": 6, "type": "aaaa", "inputs": []})
    with pytest.raises(NotWorkflow):
        read_workflow(value)


def test_links_that_go_in_a_circle_come_to_an_end() -> None:
    value = {
        "nodes": [node(number, "Reroute", inputs=[{"name": "", "link": number}]) for number in (1, 2)]
        + [node(3, "KSampler", inputs=[{"name": "latent_image", "link": 1}])],
        "links": [[1, 2, 0, 1, 0, "*"], [2, 1, 0, 2, 0, "*"]],
    }
    workflow = read_workflow(value)
    sampler = workflow.node("3")
    assert sampler is not None
    assert workflow.source(sampler, "latent_image") is None


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([1, 2], "a list"),
        ("hello", "a piece of text"),
        (None, "nothing"),
        ({}, "an empty object"),
        ({"queue_running": [], "queue_pending": []}, "a server's queue"),
        ({"abc": {"prompt": [], "outputs": {}, "status": {}}}, "a server's history"),
        ({"KSampler": {"input": {}, "output": []}}, "/object_info"),
        ({"node_id": "3", "exception_message": "x"}, "--error"),
        ({"name": "x", "version": "1", "dependencies": {}}, "package.json"),
        ({"b": 1, "a": 2}, "a JSON object with a, b"),
        ({"nodes": "many"}, "a JSON object with nodes"),
    ],
)
def test_what_is_no_workflow_is_named(value: Any, words: str) -> None:
    with pytest.raises(NotWorkflow) as no:
        read_workflow(value)
    assert words in render(no.value.why)
