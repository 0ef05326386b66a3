"""The rules of parallel sizes, and what is said when they are broken."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from cosmos_nemo.errors import UserError
from cosmos_nemo.parallel.sizes import IndivisibleError, ParallelSizes, divisors, one_of, require_divisor

TP, PP, CP = "tensor_model_parallel_size", "pipeline_model_parallel_size", "context_parallel_size"


def sizes(tensor: Any = 1, pipeline: Any = 1, context: Any = 1, sequence: bool = False) -> ParallelSizes:
    return ParallelSizes(**{TP: tensor, PP: pipeline, CP: context, "sequence_parallel": sequence})


@pytest.mark.parametrize(
    ("held", "processes", "copies"),
    [(sizes(), 1, 1), (sizes(), 8, 8), (sizes(8), 8, 1), (sizes(2, 2, 2), 8, 1), (sizes(2, 1, 2), 16, 4)],
)
def test_processes_hold_as_many_copies_as_the_product_of_the_sizes_goes_into_them(
    held: ParallelSizes, processes: int, copies: int
) -> None:
    assert held.data_parallel_size(processes) == copies
    assert held.product * copies == processes


@pytest.mark.parametrize(
    ("held", "processes", "message"),
    [
        (sizes(tensor=2), 1, f"{TP}=2 does not divide 1 process; use {TP}=1, or start a multiple of 2 processes."),
        (sizes(pipeline=2), 1, f"{PP}=2 does not divide 1 process; use {PP}=1, or start a multiple of 2 processes."),
        (sizes(context=2), 1, f"{CP}=2 does not divide 1 process; use {CP}=1, or start a multiple of 2 processes."),
        (
            sizes(tensor=3),
            8,
            f"{TP}=3 does not divide 8 processes; use {TP}=1, 2, 4 or 8, or start a multiple of 3 processes.",
        ),
        (
            sizes(tensor=4, context=4),
            8,
            f"{TP}=4 x {CP}=4 = 16 does not divide 8 processes; use {TP}=1 or 2 or {CP}=1 or 2, "
            "or start a multiple of 16 processes.",
        ),
        (
            sizes(tensor=3, pipeline=2),
            8,
            f"{TP}=3 x {PP}=2 = 6 does not divide 8 processes; use {TP}=1, 2 or 4, or start a multiple of 6 processes.",
        ),
        (
            sizes(tensor=3, pipeline=3),
            8,
            f"{TP}=3 x {PP}=3 = 9 does not divide 8 processes; lower more than one of them, "
            "or start a multiple of 9 processes.",
        ),
    ],
)
def test_what_does_not_divide_is_said_with_the_sizes_that_do(held: ParallelSizes, processes: int, message: str) -> None:
    with pytest.raises(IndivisibleError) as error:
        held.data_parallel_size(processes)
    assert str(error.value) == message


def test_sizes_that_a_message_offers_are_accepted_and_no_other_is() -> None:
    for tensor in range(1, 10):
        try:
            sizes(tensor, context=2).data_parallel_size(8)
        except IndivisibleError:
            assert tensor not in divisors(4)
        else:
            assert tensor in divisors(4)


def test_message_says_how_processes_are_started() -> None:
    with pytest.raises(IndivisibleError, match=r"start a multiple of 2 processes with torchrun\.$"):
        sizes(2).data_parallel_size(1, start="with torchrun")


@pytest.mark.parametrize("value", [0, -1, 1.5, "2", None])
@pytest.mark.parametrize("name", [TP, PP, CP])
def test_size_is_a_whole_number_of_at_least_one(name: str, value: Any) -> None:
    with pytest.raises(UserError, match=f"^{name}={value}: needs a whole number of at least 1"):
        ParallelSizes(**{name: value})


def test_sequence_parallelism_needs_tensor_parallelism() -> None:
    with pytest.raises(UserError, match=f"sequence_parallel=True needs {TP} > 1"):
        sizes(sequence=True)
    sizes(tensor=2, sequence=True)


def test_sizes_are_read_from_whatever_has_their_names() -> None:
    holder = SimpleNamespace(**{TP: 4, PP: 2, CP: 2, "sequence_parallel": True, "expert_model_parallel_size": 3})
    assert ParallelSizes.of(holder) == sizes(4, 2, 2, sequence=True)


def test_words_name_pipeline_stages_only_if_there_are_several() -> None:
    assert sizes(4, context=2).words() == "tensor 4 x context 2"
    assert sizes(pipeline=2).words() == "pipeline 2 x tensor 1 x context 1"


def test_size_must_divide_everything_that_it_cuts() -> None:
    sizes(4).require("tensor", {"heads": 8, "rows": 12})
    with pytest.raises(IndivisibleError) as error:
        sizes(3).require("tensor", {"heads": 8, "layers": 6, "rows": 10}, otherwise=", or something else")
    assert str(error.value) == f"{TP}=3 does not divide heads (8) and rows (10); use 1 or 2, or something else."


@pytest.mark.parametrize("size", [0, -2, 16])
def test_number_on_a_command_line_is_held_to_the_same_rule(size: int) -> None:
    with pytest.raises(IndivisibleError) as error:
        require_divisor(f"--tensor-parallel {size}", size, {"heads": 8})
    assert str(error.value) == f"--tensor-parallel {size} does not divide heads (8); use 1, 2, 4 or 8."


def test_heads_of_a_tensor_parallel_rank_are_exchanged_for_tokens() -> None:
    sizes(2, context=2).require_context({"heads": 4}, "a2a")
    with pytest.raises(IndivisibleError) as error:
        sizes(2, context=4).require_context({"heads": 4}, "a2a")
    assert str(error.value) == (
        f"{CP}=4 does not divide heads of a tensor-parallel rank (2); use 1 or 2, or cp_comm_type='all_gather', "
        "which takes any size."
    )
    sizes(2, context=4).require_context({"heads": 4}, "all_gather")
    with pytest.raises(UserError, match="cp_comm_type='p2p' is unknown"):
        sizes().require_context({"heads": 4}, "p2p")


def test_pipeline_stages_need_equal_pieces_of_the_sequence() -> None:
    sizes(2, context=2, sequence=True).require_even_tokens(7)
    sizes(2, pipeline=2, context=2).require_even_tokens(6)
    with pytest.raises(IndivisibleError, match="6 tokens cannot be cut into 4 equal pieces"):
        sizes(2, pipeline=2, context=2, sequence=True).require_even_tokens(6)


@pytest.mark.parametrize(
    ("held", "message"),
    [
        (sizes(tensor=2), f"{TP}=2: a tokenizer has no tensor parallelism (it has data, context); set it to 1."),
        (sizes(pipeline=2), f"{PP}=2: a tokenizer has no pipeline parallelism (it has data, context); set it to 1."),
    ],
)
def test_kind_of_parallelism_that_is_not_there_is_refused_by_its_setting(held: ParallelSizes, message: str) -> None:
    with pytest.raises(UserError) as error:
        held.allow(("context",), who="a tokenizer")
    assert str(error.value) == message


def test_sequence_parallelism_is_refused_by_its_own_setting() -> None:
    with pytest.raises(UserError, match=r"sequence_parallel=True: x has no sequence parallelism .*set it to False"):
        sizes(tensor=2, sequence=True).allow(("tensor",), who="x")
    sizes(context=2).allow(("context",), who="x")


def test_legal_values_read_as_english() -> None:
    assert [one_of(values) for values in ([1], [1, 2], [1, 2, 4])] == ["1", "1 or 2", "1, 2 or 4"]
