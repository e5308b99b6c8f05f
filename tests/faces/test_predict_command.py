"""`gpuwatch predict` and `gpuwatch fit`: their JSON, their pages, their exit codes, and that they load no torch."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from gpuwatch.faces import cli

GIB = 1 << 30


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Any:
    """Run the command line; exit code, stdout, stderr."""

    def run(*arguments: str) -> tuple[int, str, str]:
        code = cli.main([*arguments, "--lang", "en"])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


def test_a_prediction_has_the_promised_shape(say: Any) -> None:
    code, out, _ = say("predict", "ddcolor", "--variant", "large", "--size", "512", "--gpu-memory", "8GiB", "--json")
    value = json.loads(out)
    assert code == 0
    assert {
        "workload", "variant", "size", "batch", "dtype", "rewrite", "arch", "live_bytes", "allocated_bytes",
        "reserved_bytes", "min_budget_bytes", "process_bytes", "breakdown", "peak_op", "gflop", "tokens", "valid", "why",
        "fits", "source", "token_unit",
    } <= value.keys()  # fmt: skip
    assert (value["valid"], value["why"], value["fits"], value["source"]) == (True, None, "yes", "predicted")
    assert (value["tokens"], value["token_unit"], value["peak_op"]) == (1024, "visual", "decoder.last_shuf: avg_pool2d")
    for band in ("reserved_bytes", "min_budget_bytes", "process_bytes"):
        assert list(value[band]) == ["low", "mid", "high"]
        assert value[band]["low"] <= value[band]["mid"] <= value[band]["high"]
        assert all(isinstance(count, int) for count in value[band].values())
    parts = value["breakdown"]
    assert parts["weights_bytes"] + parts["activations_bytes"] + parts["workspace_bytes"] == value["live_bytes"]
    assert value["gflop"] == pytest.approx(524.4, rel=0.002)


@pytest.mark.parametrize("size", ["720", "0", "-64", "4128", "99999999999999999999"])
def test_a_size_that_cannot_run_is_told_with_null_bytes_and_exit_one(size: str, say: Any) -> None:
    code, out, _ = say("predict", "ddcolor", "--variant", "tiny", "--size", size, "--json")
    value = json.loads(out)
    assert (code, value["valid"], value["fits"]) == (1, False, None)
    assert value["why"]
    assert [value[name] for name in ("live_bytes", "reserved_bytes", "process_bytes", "breakdown", "peak_op")] == [
        None
    ] * 5
    code, out, err = say("predict", "ddcolor", "--variant", "tiny", "--size", size)
    assert (code, out) == (1, "")
    assert value["why"] in err


def test_what_does_not_fit_is_exit_one_and_what_may_is_zero(say: Any) -> None:
    words = ("predict", "ddcolor", "--variant", "large", "--size", "1280", "--gpu-memory")
    assert [say(*words, card)[0] for card in ("6GiB", "7GiB", "8GiB")] == [1, 0, 0]
    assert "may not fit" in say(*words, "7GiB")[1]
    assert "▶" in say(*words, "6GiB")[1]
    assert "does not fit" in say(*words, "6GiB")[1]


def test_the_page_says_what_it_rests_on(say: Any) -> None:
    page = say("predict", "ddcolor", "--variant", "tiny", "--size", "512", "--allocator", "async")[1]
    assert "not measured on a GPU" in page
    assert "cudaMallocAsync is approximated" in page
    assert "decoder.last_shuf: avg_pool2d" in page


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("predict",), "WORKLOAD"),
        (("predict", "ddcolor", "--size", "512"), "--variant"),
        (("predict", "ddcolor", "--variant", "tiny", "--size", "many"), "many"),
        (("predict", "ddcolor", "--variant", "tiny", "--size", "512", "--gpu-memory", "8 apples"), "8 apples"),
        (("predict", "ddcolor", "--variant", "tiny", "--size", "512", "--gpu-memory", "-1GiB"), "-1GiB is no size"),
        (("predict", "ddcolor", "--variant", "tiny", "--size", "512", "--grad", "--rewrite", "fold"), "no trace"),
        (("predict", "flux", "--size", "512"), "flux"),
        (("fit", "ddcolor"), "--gpu-memory"),
        (("fit", "ddcolor", "--gpu-memory", "-1GiB"), "-1GiB is no size"),
        (("fit", "ddcolor", "--gpu-memory", "0"), "is no size"),
        (("fit", "ddcolor", "--gpu-memory", "9" * 400), "is no size"),
        (("fit", "ddcolor", "--gpu-memory", "99999999TiB"), "is no size"),
        (("run", "ddcolor", "a.png", "--memory-limit", "9" * 400), "is no size"),
    ],
)
def test_wrong_use_is_exit_two(arguments: tuple[str, ...], words: str, say: Any) -> None:
    code, out, err = say(*arguments)
    assert (code, out) == (2, "")
    assert words in err


def test_a_wild_architecture_only_widens(say: Any) -> None:
    code, out, _ = say("predict", "ddcolor", "--variant", "tiny", "--size", "512", "--arch", "sm_✗", "--json")
    assert (code, json.loads(out)["arch"]) == (0, "sm_✗")


def test_what_is_only_claimed_is_said_to_be(say: Any) -> None:
    code, out, _ = say("predict", "sonic")
    assert code == 0
    assert "nothing of it was traced or measured" in out
    assert json.loads(say("predict", "sonic", "--json")[1])["source"] == "claimed"


def test_what_fits_is_listed_best_first(say: Any) -> None:
    code, out, _ = say("fit", "ddcolor", "--gpu-memory", "8GiB", "--used", "1GiB", "--json")
    found = json.loads(out)["choices"]
    assert code == 0
    for choice in found:
        assert choice["size"] % 32 == 0
        assert choice["predicted_bytes"] + choice["headroom_bytes"] == pytest.approx(7 * GIB, abs=2)
        assert choice["headroom_bytes"] >= 0
        assert choice["needs"] in {"widget", "node", "runner"}
        assert choice["note"]
    exact = [choice for choice in found if choice["dtype"] == "fp32" and choice["variant"] == "large"]
    assert [choice["rewrite"] for choice in exact] == ["fold", "tail", "none"]
    assert [choice["size"] for choice in exact] == sorted((choice["size"] for choice in exact), reverse=True)
    assert exact[-1]["needs"] == "widget"


def test_a_choice_that_fits_is_predicted_to(say: Any) -> None:
    for card in ("4GiB", "12GiB"):
        (choice,) = json.loads(
            say("fit", "ddcolor", "--gpu-memory", card, "--variant", "large", "--rewrite", "none", "--dtype", "fp32", "--json")[1]
        )["choices"]  # fmt: skip
        words = ("predict", "ddcolor", "--variant", "large", "--gpu-memory", card, "--json", "--size")
        assert json.loads(say(*words, str(choice["size"]))[1])["fits"] == "yes"
        assert json.loads(say(*words, str(choice["size"] + 32))[1])["fits"] != "yes"


def test_a_card_on_which_nothing_fits_is_exit_one(say: Any) -> None:
    code, out, _ = say("fit", "ddcolor", "--gpu-memory", "600MiB")
    assert code == 1
    assert "Nothing surely fits" in out
    assert say("fit", "ddcolor", "--gpu-memory", "8GiB", "--used", "9GiB", "--json") == (1, '{"choices": []}\n', "")


def test_the_table_has_three_profiles_a_card(say: Any) -> None:
    code, out, _ = say("fit", "ddcolor", "--table", "--gpu-memory", "8GiB", "--json")
    rows = json.loads(out)["profiles"]
    assert code == 0
    assert [row["profile"] for row in rows] == ["low", "middle", "high"]
    assert rows[0]["stock"]["size"] < rows[2]["stock"]["size"] < rows[2]["exact"]["size"]
    assert "middle" in say("fit", "ddcolor", "--table", "--gpu-memory", "8GiB")[1]


def test_neither_loads_torch() -> None:
    script = (
        "import sys; from gpuwatch.faces import cli; "
        "cli.main(['predict', 'ddcolor', '--variant', 'tiny', '--size', '256']); "
        "cli.main(['fit', 'ddcolor', '--gpu-memory', '2GiB']); "
        "sys.exit(', '.join(sys.modules.keys() & {'torch', 'numpy', 'textual'}) or 0)"
    )
    child = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert (child.returncode, child.stderr) == (0, "")
