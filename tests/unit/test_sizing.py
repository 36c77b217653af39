"""What a model needs of cards and memory, what does not fit, and what would."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from slipway.catalog.records import Accelerator, Endpoint, Model, Runtime, Storage
from slipway.manifests.memory import GIB, Cut, flag_value, loading_of, token_bytes, weight_bytes
from slipway.manifests.sizing import Sizing, size, sizing_faults, startup_budget_seconds

# Numbers of the models' config.json, sizes of their files.
MODELS: dict[str, dict[str, Any]] = {
    "qwen3-0.6b": {
        "size": "1503Mi",
        "parameters": 596_049_920,
        "architecture": {
            "layers": 28,
            "hidden_size": 1024,
            "vocabulary": 151_936,
            "attention_heads": 16,
            "kv_heads": 8,
            "head_dimension": 128,
        },
    },
    "qwq-32b": {
        "size": "65530M",
        "parameters": 32_763_876_352,
        "architecture": {
            "layers": 64,
            "hidden_size": 5120,
            "vocabulary": 152_064,
            "attention_heads": 40,
            "kv_heads": 8,
            "head_dimension": 128,
        },
    },
    "llama-70b": {
        "size": "141107M",
        "parameters": 70_553_706_496,
        "architecture": {
            "layers": 80,
            "hidden_size": 8192,
            "vocabulary": 128_256,
            "attention_heads": 64,
            "kv_heads": 8,
            "head_dimension": 128,
        },
    },
    "qwen3-235b": {
        "size": "470190M",
        "parameters": 235_093_634_560,
        "architecture": {
            "layers": 94,
            "hidden_size": 4096,
            "vocabulary": 151_936,
            "attention_heads": 64,
            "kv_heads": 4,
            "head_dimension": 128,
            "experts": 128,
        },
    },
    "deepseek-r1": {
        "size": "688590M",
        "parameters": 671_026_419_200,
        "architecture": {
            "layers": 61,
            "hidden_size": 7168,
            "vocabulary": 129_280,
            "attention_heads": 128,
            "kv_heads": 128,
            "head_dimension": 192,
            "latent": {"rank": 512, "rope_dimension": 64},
            "weight_type": "fp8",
            "experts": 256,
        },
    },
}
CARDS: dict[str, dict[str, Any]] = {
    "80g": {"card_memory": "81000Mi"},
    "h20": {"card_memory": "97280Mi", "counts": [1, 2, 4, 8]},
    "ppu": {"card_memory": "95Gi", "counts": [1, 2, 4, 8, 16]},
    "unknown": {},
    "shared": {
        "card_memory": "81000Mi",
        "offered_by": "hami",
        "share": {"resource": "nvidia.com/gpumem", "unit": "1Mi"},
    },
}


def model(name: str) -> Model:
    common = {
        "name": name,
        "sources": ["s3://models/x"],
        "served_name": "x",
        "context_length": 1_048_576,
        "license": "MIT",
    }
    return Model.model_validate({**common, **MODELS[name]})


def card(name: str) -> Accelerator:
    common = {"name": name, "kind": "nvidia", "offered_by": "device-plugin", "resource": "nvidia.com/gpu"}
    return Accelerator.model_validate({**common, **CARDS[name]})


CPU = Accelerator(name="cpu", kind="cpu", offered_by="kubernetes")


def runtime(**more: Any) -> Runtime:
    common = {"name": "r", "task": "chat", "program": "vllm", "images": {"nvidia": "x", "cpu": "x"}}
    return Runtime.model_validate({**common, **more})


def endpoint(**more: Any) -> Endpoint:
    common = {
        "name": "e",
        "model": "m",
        "runtime": "r",
        "accelerator": "a",
        "cluster": "c",
        "namespace": "n",
        "resources": {"cpu": "8", "memory": "128Gi"},
        "volume": {"size": "1Ti"},
    }
    return Endpoint.model_validate({**common, **more})


def sized(what: str, on: str, context: int, *, args: list[str] | None = None, **more: Any) -> Sizing:
    wanted = endpoint(args=args or [], **more)
    return size(wanted, model=model(what), device=card(on), runtime=runtime(), context_length=context)


def faults(what: str, device: Accelerator, context: int, *, its: Runtime | None = None, **more: Any) -> Any:
    found = sizing_faults(
        endpoint(**more), model=model(what), device=device, runtime=its or runtime(), context_length=context
    )
    return {fault.field: fault.message for fault in found}


# -- known facts ---------------------------------------------------------------------------------------------

KNOWN = [
    # The StatefulSet of "vLLM on Kubernetes": 8 cards of 80 GB, 0.85 of each, 131072 tokens.
    ("qwen3-235b", "80g", 8, 131_072, 0.85, True),
    ("qwen3-235b", "80g", 8, 131_072, 0.9, True),
    ("qwen3-235b", "80g", 4, 4096, 0.9, False),
    # DeepSeek R1 in fp8 does not fit 8 cards of 80 GB; 8 of 96 GB hold it with little to spare.
    ("deepseek-r1", "80g", 8, 1024, 0.95, False),
    ("deepseek-r1", "h20", 8, 32_768, 0.95, True),
    ("deepseek-r1", "h20", 8, 163_840, 0.95, False),
    ("deepseek-r1", "ppu", 16, 163_840, 0.9, True),
    ("qwq-32b", "80g", 1, 16_384, 0.9, True),
    ("qwq-32b", "80g", 1, 131_072, 0.9, False),
    ("qwq-32b", "80g", 2, 131_072, 0.9, True),
    ("llama-70b", "80g", 1, 1024, 0.95, False),
    ("llama-70b", "80g", 2, 16_384, 0.95, True),
    ("llama-70b", "80g", 2, 131_072, 0.95, False),
    ("llama-70b", "80g", 4, 131_072, 0.9, True),
    ("qwen3-0.6b", "80g", 1, 40_960, 0.9, True),
]


@pytest.mark.parametrize(("what", "on", "cards", "context", "part", "fits"), KNOWN)
def test_known_models_on_known_cards(
    what: str, on: str, cards: int, context: int, part: float, fits: bool
) -> None:
    sizing = sized(what, on, context, cards=cards, memory_utilization=part)
    assert sizing.fits == fits, sizing.text


def test_the_cache_of_known_models() -> None:
    """2 x layers x heads x dimension x 2 bytes; with MLA layers x (rank + rope) x 2, on every rank."""

    def each(what: str, tensor: int, pipeline: int = 1, *args: str) -> int:
        known = model(what)
        assert known.architecture
        loading = loading_of(args, model=known)
        return token_bytes(known.architecture, cut=Cut(tensor, pipeline), loading=loading)

    assert each("qwen3-0.6b", 1) == 2 * 28 * 8 * 128 * 2
    assert each("qwq-32b", 4) == 2 * 64 * 2 * 128 * 2
    # 4 KV heads over 8 ranks: each holds one, so there are two copies.
    assert each("qwen3-235b", 8) == each("qwen3-235b", 4) == 2 * 94 * 1 * 128 * 2
    assert each("deepseek-r1", 1) == each("deepseek-r1", 16) == 61 * 576 * 2
    assert each("deepseek-r1", 8, 2) == 31 * 576 * 2
    assert each("qwq-32b", 4, 1, "--kv-cache-dtype=fp8_e4m3") == 2 * 64 * 2 * 128
    assert each("qwq-32b", 4, 1, "--kv-cache-dtype", "fp8") == 2 * 64 * 2 * 128
    assert each("qwq-32b", 4, 1, "--dtype=float32") == 2 * 64 * 2 * 128 * 4


def test_weights_of_known_models() -> None:
    def held(what: str, tensor: int, pipeline: int = 1, *args: str) -> float:
        known = model(what)
        return weight_bytes(known, cut=Cut(tensor, pipeline), loading=loading_of(args, model=known)) / 1e9

    assert held("qwq-32b", 1) == pytest.approx(65.53, abs=0.01)
    assert held("qwq-32b", 1, 1, "--dtype=float32") == pytest.approx(131.06, abs=0.01)
    assert held("qwq-32b", 1, 1, "--quantization=fp8") == pytest.approx(34.3, abs=0.1), "not the embedding"
    assert held("qwen3-235b", 8) == pytest.approx(470.19 / 8, rel=0.005)
    # 79.4 GiB a rank were seen with 8 (HabanaAI/vllm-fork#809), which leaves the prediction layer out.
    assert held("deepseek-r1", 8) * 1e9 / GIB == pytest.approx(80.4, abs=0.2)
    assert held("llama-70b", 4, 2) == pytest.approx(141.1 / 8, rel=0.02)
    assert held("deepseek-r1", 1, 1, "--dtype=float32") == held("deepseek-r1", 1), "fp8 stays fp8"


def test_the_numbers_are_told() -> None:
    text = sized("qwen3-235b", "80g", 131_072, cards=8).text
    assert text == (
        "weights 54.9 GiB + KV cache 5.9 GiB (131072 tokens x 1) + 4.8 GiB for activations and communication"
        " = 65.6 GiB of 71.2 GiB per card (8 x 79.1 GiB x 0.9)"
    )


def test_a_card_of_unknown_memory_is_no_fault() -> None:
    sizing = sized("deepseek-r1", "unknown", 163_840, cards=1)
    assert sizing.fits
    assert "is not known" in sizing.text


def test_an_unknown_architecture_is_sized_by_its_weights() -> None:
    known = model("qwq-32b").model_copy(update={"architecture": None})
    wanted = endpoint(cards=1)
    sizing = size(wanted, model=known, device=card("80g"), runtime=runtime(), context_length=131_072)
    assert sizing.fits
    assert "unknown architecture" in sizing.text


def test_arguments_have_the_last_word_on_the_cards_memory() -> None:
    assert "x 0.5)" in sized("qwen3-0.6b", "80g", 1024, cards=1, args=["--gpu-memory-utilization=0.5"]).text
    assert "x 0.5)" in sized("qwen3-0.6b", "80g", 1024, cards=1, memory_utilization=0.5).text


@pytest.mark.parametrize(
    ("said", "value"),
    [
        ("--dtype=half", "half"),
        ("exec vllm serve m --dtype half --x", "half"),
        ("--dtype 'half'", "half"),
        ("--dtype=half --dtype=float32", "float32"),
        ("--other-dtype=half", None),
        ("--dtype={{ X }}", None),
        ("", None),
    ],
)
def test_values_of_flags(said: str, value: str | None) -> None:
    assert flag_value(said, "--dtype") == value


# -- shares --------------------------------------------------------------------------------------------------


def test_a_share_is_sized_by_itself_and_a_larger_one_is_suggested() -> None:
    wanted = {"cards": 1, "share": {"memory": "16Gi"}}
    assert "of 14.4 GiB per share" in sized("qwen3-0.6b", "shared", 1024, **wanted).text
    sizing = sized("qwq-32b", "shared", 1024, **wanted)
    assert sizing.suggestions == [{"share.memory": "71Gi"}]
    assert list(faults("qwq-32b", card("shared"), 1024, **wanted)) == ["share.memory"]


# -- CPU -----------------------------------------------------------------------------------------------------


def on_cpu(context: int = 8192, *, space: str | None = None, memory: str = "8Gi", args: Any = ()) -> Sizing:
    env = {} if space is None else {"VLLM_CPU_KVCACHE_SPACE": space}
    its = runtime(env=env, args=list(args), shared_memory="512Mi")
    wanted = endpoint(resources={"cpu": "4", "memory": memory})
    return size(wanted, model=model("qwen3-0.6b"), device=CPU, runtime=its, context_length=context)


def test_the_documents_0_6b_on_a_cpu_takes_about_7_gb() -> None:
    """As they run it: --dtype=half, 8192 tokens, and the cache that vLLM 0.8.5 reserves unless told otherwise."""
    needs = on_cpu(args=["--dtype=half", "--device=cpu", "--max-model-len=8192"]).needs
    assert (needs.needed - needs.shared_memory) / 1e9 == pytest.approx(7.4, abs=0.3)


def test_float32_doubles_weights_and_cache_on_a_cpu() -> None:
    half, full = on_cpu(space="2"), on_cpu(space="2", args=["--dtype=float32"])
    assert full.needs.weights == pytest.approx(2 * half.needs.weights)
    assert half.needs.holds and full.needs.holds
    assert full.needs.holds[0] == 2 * half.needs.holds[0]


def test_a_context_that_the_reserved_cache_does_not_hold() -> None:
    sizing = on_cpu(space="1", args=["--dtype=float32"])
    assert not sizing.fits
    assert sizing.suggestions == [{"context_length": 4096}, {"env.VLLM_CPU_KVCACHE_SPACE": "2"}]


def test_memory_that_a_cpu_pod_lacks() -> None:
    sizing = on_cpu(1024, space="4", memory="4Gi")
    assert sizing.suggestions == [{"resources.memory": "8Gi"}]
    found = faults("qwen3-0.6b", CPU, 1024, its=runtime(env={}), resources={"cpu": "1", "memory": "4Gi"})
    assert list(found) == ["resources.memory"]


def test_each_pod_of_a_group_has_its_own_rank() -> None:
    """Two ranks of one pod share its memory; in two pods each has the half, and a program of its own."""

    def needs(**parallel: int) -> Any:
        its = runtime(env={"VLLM_CPU_KVCACHE_SPACE": "2"})
        wanted = endpoint(parallel=parallel)
        return size(wanted, model=model("qwen3-0.6b"), device=CPU, runtime=its, context_length=1024).needs

    alone, together, apart = needs(), needs(tensor=2), needs(tensor=2, pods=2)
    assert together.weights == pytest.approx(alone.weights, rel=0.01)
    assert apart.weights == pytest.approx(alone.weights / 2, rel=0.01)
    assert (alone.kv_cache, together.kv_cache, apart.kv_cache) == (2 * GIB, 4 * GIB, 2 * GIB)
    assert together.working > apart.working == alone.working


def test_simulated_cards_have_no_memory_so_the_pods_counts() -> None:
    simulated = Accelerator(name="s", kind="cpu", offered_by="simulated", resource="nvidia.com/gpu")
    wanted = endpoint(cards=8, resources={"cpu": "1", "memory": "8Gi"})
    sizing = size(wanted, model=model("qwen3-0.6b"), device=simulated, runtime=runtime(), context_length=1024)
    assert "of the pod's 8.0 GiB" in sizing.text
    assert not list(faults("qwen3-0.6b", simulated, 1024, cards=8))


# -- cuts ----------------------------------------------------------------------------------------------------

CUTS = [
    ("qwen3-235b", {"cards": 8}, {}),
    ("qwen3-235b", {"cards": 8, "parallel": {"tensor": 4, "pipeline": 2}}, {}),
    ("deepseek-r1", {"cards": 8, "parallel": {"pods": 2, "pipeline": 2}}, {}),
    (
        "qwq-32b",
        {"cards": 3},
        {"cards": "40 attention heads cannot be cut over 3 ranks; possible are 1, 2, 4, 8"},
    ),
    ("qwq-32b", {"cards": 5}, {"cards": "8 KV heads and 5 ranks: one must divide the other"}),
    (
        "qwq-32b",
        {"cards": 8, "parallel": {"tensor": 4}},
        {"parallel.tensor": "4 x pipeline 1 = 4, but there are 8"},
    ),
    (
        "qwq-32b",
        {"cards": 8, "parallel": {"pipeline": 3}},
        {"parallel.pipeline": "tensor 2 x pipeline 3 = 6"},
    ),
    (
        "qwen3-0.6b",
        {"cards": 32, "parallel": {"pipeline": 32}},
        {"parallel.pipeline": "28 layers cannot be cut into 32 groups"},
    ),
]


@pytest.mark.parametrize(("what", "more", "told"), CUTS)
@pytest.mark.parametrize("mode", ["enforce", "advise"])
def test_cuts(what: str, more: dict[str, Any], told: dict[str, str], mode: str) -> None:
    """An impossible cut is a fault even where the sizing only advises."""
    found = faults(what, card("unknown"), 1024, sizing=mode, **more)
    assert list(found) == list(told)
    for field, message in told.items():
        assert message in found[field]


# -- faults --------------------------------------------------------------------------------------------------


def test_what_does_not_fit_is_a_fault_unless_the_sizing_only_advises() -> None:
    asked = {"what": "deepseek-r1", "device": card("80g"), "context": 32_768, "cards": 8}
    assert list(faults(**asked)) == ["cards"]
    assert "what fits: cards: 16" in faults(**asked)["cards"]
    assert faults(**asked, sizing="advise") == {}


def test_a_context_that_is_too_long_is_the_contexts_fault() -> None:
    found = faults("qwq-32b", card("80g"), 131_072, cards=1)
    assert list(found) == ["context_length"]
    assert "what fits: context_length: 30720; cards: 2" in found["context_length"]


def test_both_are_changed_where_one_is_not_enough() -> None:
    only_two = card("80g").model_copy(update={"counts": [1, 2]})
    sizing = size(
        endpoint(cards=1),
        model=model("llama-70b"),
        device=only_two,
        runtime=runtime(),
        context_length=131_072,
    )
    assert sizing.suggestions == [{"cards": 2, "context_length": 7168}]


def test_more_pods_where_a_pod_can_have_no_more_cards() -> None:
    eight = card("80g").model_copy(update={"counts": [1, 2, 4, 8]})
    sizing = size(
        endpoint(cards=8),
        model=model("deepseek-r1"),
        device=eight,
        runtime=runtime(distributed=True),
        context_length=32_768,
    )
    assert sizing.suggestions == [{"cards": 8, "parallel.pods": 2, "parallel.pipeline": 2}]


def test_shared_memory_counts_against_the_pods_limit() -> None:
    """The StatefulSet of "vLLM on Kubernetes" gives all 256 GiB of its limit to /dev/shm."""
    asked: dict[str, Any] = {"cards": 8, "resources": {"cpu": "16", "memory": "256Gi"}}
    found = faults("qwen3-235b", card("80g"), 4096, shared_memory="256Gi", **asked)
    assert list(found) == ["resources.memory"]
    assert "256.0 GiB" in found["resources.memory"]
    assert faults("qwen3-235b", card("80g"), 4096, shared_memory="64Gi", **asked) == {}


def test_the_budget_for_a_start_grows_with_the_weights() -> None:
    rate = Storage(storage_class="x", read_rate="500M")
    budget = startup_budget_seconds(
        model=model("deepseek-r1"), runtime=runtime(startup_seconds=900), storage=rate
    )
    assert budget == 900 + 1378


# -- for all -------------------------------------------------------------------------------------------------

names = st.sampled_from(sorted(MODELS))
devices = st.sampled_from([name for name in sorted(CARDS) if name != "shared"])
counts = st.sampled_from([1, 2, 4, 8, 16])
contexts = st.integers(1, 300_000)


@given(names, devices, counts, contexts, contexts, st.integers(1, 64), st.integers(1, 64))
def test_more_tokens_never_need_less(
    what: str, on: str, cards: int, one: int, two: int, few: int, many: int
) -> None:
    one, two, few, many = *sorted((one, two)), *sorted((few, many))
    less = sized(what, on, one, cards=cards, concurrency=few)
    more = sized(what, on, two, cards=cards, concurrency=many)
    assert less.needs.needed <= more.needs.needed
    assert less.fits or not more.fits


def changed(wanted: Endpoint, changes: dict[str, int | str]) -> Endpoint:
    """The endpoint as a person would change its file."""
    data = wanted.model_dump()
    for name, value in changes.items():
        *parents, last = name.split(".", 1) if name.startswith("env.") else name.split(".")
        inner = data
        for parent in parents:
            inner = inner[parent]
        inner[last] = value
    return Endpoint.model_validate(data)


@given(
    names,
    st.sampled_from([*sorted(CARDS), "cpu"]),
    counts,
    contexts,
    st.integers(1, 16),
    st.sampled_from(["--dtype=auto", "--dtype=float32", "--kv-cache-dtype=fp8", "--quantization=fp8"]),
    st.sampled_from([{}, {"pipeline": 2, "pods": 2}, {"pipeline": 2}]),
    st.integers(1, 78),
    st.booleans(),
)
def test_what_is_suggested_fits(
    what: str,
    on: str,
    cards: int,
    context: int,
    concurrency: int,
    argument: str,
    parallel: dict[str, int],
    share: int,
    cut_is_named: bool,
) -> None:
    device = CPU if on == "cpu" else card(on)
    more: dict[str, Any] = {"parallel": parallel}
    if on != "cpu":
        more["cards"] = cards
        if cut_is_named:
            more["parallel"] = {**parallel, "tensor": cards}
    if on == "shared":
        more["share"] = {"memory": f"{share}Gi"}
    wanted = endpoint(args=[argument], concurrency=concurrency, context_length=context, **more)
    known: dict[str, Any] = {
        "model": model(what),
        "device": device,
        "runtime": runtime(distributed=True, env={"VLLM_CPU_KVCACHE_SPACE": "2"}),
    }
    assume(
        not list(
            sizing_faults(wanted.model_copy(update={"sizing": "advise"}), context_length=context, **known)
        )
    )
    sizing = size(wanted, context_length=context, **known)
    assume(not sizing.fits)
    for changes in sizing.suggestions:
        fitting = changed(wanted, changes)
        assert fitting.context_length
        again = size(fitting, context_length=fitting.context_length, **known)
        assert again.fits, (changes, again.text)
        assert not list(sizing_faults(fitting, context_length=fitting.context_length, **known))
