"""A call as a CUDA graph, on the CPU as far as it goes: what lives, which stream and device."""

import gc
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch
from recorded_cuda import RecordedCuda

import mlr
from mlr import Case, Problem, check, cuda_graphs, get_kernel, steps
from mlr.cuda_graphs import WARM_UP_CALLS, capture


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[RecordedCuda]:
    """Give a GPU that is the CPU, on which nothing was captured yet."""
    cuda_graphs.capture_stream.cache_clear()
    yield RecordedCuda(monkeypatch)
    cuda_graphs.capture_stream.cache_clear()


def problem_of(m: int = 33) -> Problem:
    return Problem(Case("step", "cpu", "float64", m, 6, 3))


@pytest.mark.usefixtures("cuda")
def test_a_replay_is_a_step_and_binding_is_none() -> None:
    problem = problem_of()
    call = steps.cuda_graph(problem)
    assert problem.weight.equal(problem.start.weight)
    assert problem.bias.equal(problem.start.bias)
    assert check(get_kernel("cuda_graph"), problem, call).reason is None


@pytest.mark.usefixtures("cuda")
def test_a_graph_whose_tensors_are_gone_is_seen_here() -> None:
    graph, values = torch.cuda.CUDAGraph(), torch.ones(3)
    with torch.cuda.graph(graph):
        values.mul_(2)
    graph.replay()
    assert values.tolist() == [4, 4, 4]
    del values
    gc.collect()
    with pytest.raises(torch.AcceleratorError, match="illegal memory access"):
        graph.replay()


@pytest.mark.usefixtures("cuda")
def test_what_a_call_uses_lives_as_long_as_the_call() -> None:
    problem = problem_of()
    weight, start = problem.weight, problem.start.weight
    call = steps.cuda_graph(problem)
    del problem
    gc.collect()
    call()
    assert not weight.equal(start)


@pytest.mark.cuda
def test_a_graph_on_tensors_that_nobody_else_holds_makes_the_steps_of_its_kernel() -> None:
    start, found = problem_of(500), {}
    for name in ("cuda_graph", "fused_addmm"):
        weight = start.weight.cuda()
        given = start.x.cuda(), start.y.cuda(), weight, start.bias.cuda()
        call = mlr.bind_step(*given, lr=0.1, kernel=name)
        del given
        gc.collect()
        overwritten = [start.x.cuda().fill_(torch.nan) for _ in range(9)]
        for _ in range(3):
            call()
        del overwritten
        found[name] = weight.cpu()
    torch.testing.assert_close(found["cuda_graph"], found["fused_addmm"], rtol=1e-12, atol=1e-14)


def test_all_calls_of_a_device_are_captured_on_one_stream(cuda: RecordedCuda) -> None:
    used: list[object] = []
    for device in (0, 0, 1, 0, 1):
        with torch.accelerator.device_index(device):
            capture(lambda: used.append(torch.cuda.current_stream()))
    first, second = cuda.made
    assert (first.device, second.device) == (0, 1)
    each = WARM_UP_CALLS + 1
    assert used == [first] * 2 * each + [second] * each + [first] * each + [second] * each
    modes = [(device, stream) for device, stream, mode in cuda.captures if mode == "thread_local"]
    assert modes == [(0, first), (0, first), (1, second), (0, first), (1, second)]


def test_a_capture_waits_for_what_was_launched_before_and_is_waited_for(cuda: RecordedCuda) -> None:
    capture(lambda: cuda.log.append(("call",)))
    waits = ("wait", "side 0 of 0", "default of 0"), ("wait", "default of 0", "side 0 of 0")
    assert cuda.log == [waits[0], *[("call",)] * (WARM_UP_CALLS + 1), waits[1]]


@pytest.mark.parametrize(
    ("device", "expected"), [("cpu", 2), ("cpu:0", 2), ("cuda", 2), ("cuda:0", 0), ("cuda:1", 1)]
)
def test_a_kernel_is_bound_on_the_device_of_its_case(
    cuda: RecordedCuda, device: str, expected: int
) -> None:
    asked: list[int] = []

    def bind(problem: Problem) -> Callable[[], None]:
        asked.append(torch.cuda.current_device())
        return lambda: None

    cuda.device = 2
    kernel = replace(get_kernel("fused_addmm"), function=bind)
    kernel.bind(Problem(replace(problem_of().case, device=device)))
    assert asked == [expected]
    assert cuda.device == 2


def test_a_graph_is_captured_on_the_device_of_its_tensors(cuda: RecordedCuda) -> None:
    given = problem_of()
    problem = Problem(replace(given.case, device="cuda:1"))
    problem.x, problem.y, problem.start = given.x, given.y, given.start
    get_kernel("cuda_graph").bind(problem)
    ((device, stream, _),) = cuda.captures
    assert (device, stream.device, cuda.device) == (1, 1, 0)


@pytest.mark.cuda
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
@pytest.mark.parametrize("name", ["cuda_graph", "one_pass_triton", "torch_compile", "jax_jit"])
def test_a_second_device_is_used_where_the_tensors_lie_there(name: str) -> None:
    kernel, case = get_kernel(name), Case("step", "cuda:1", "float64", 33, 6, 3)
    if reason := kernel.unsupported(case):
        pytest.skip(reason)
    problem = Problem(case)
    assert check(kernel, problem, kernel.bind(problem)).reason is None
    assert torch.cuda.current_device() == 0


@pytest.mark.cuda
def test_many_graphs_take_the_workspace_of_one() -> None:
    """Each stream on which cuBLAS is used keeps one for ever, 32 MiB of it on an H100."""
    kernel, case = get_kernel("cuda_graph"), Case("step", "cuda", "float32", 100, 6, 3)
    kernel.bind(Problem(case))()
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    for _ in range(8):
        kernel.bind(Problem(case))()
    gc.collect()
    assert torch.cuda.memory_allocated() - before < 2**20


@pytest.mark.usefixtures("cuda")
def test_no_graph_is_destroyed_while_a_call_of_its_stream_lives() -> None:
    """Torch would free the workspace that the others still write to; afterwards nothing is kept."""
    first, second = (steps.cuda_graph(problem_of()) for _ in range(2))
    graphs = [weakref.ref(one) for one in cuda_graphs.capture_stream(0).graphs]
    assert len(graphs) == 2
    del first
    gc.collect()
    assert all(one() is not None for one in graphs)
    second()
    del second
    gc.collect()
    assert [one() for one in graphs] == [None, None]
    assert cuda_graphs.capture_stream(0).graphs == []
