"""Launch Triton kernels on a GPU that is not there: they are compiled for it in full, and not run.

Triton itself compiles, for what its driver says the device is; the driver here only takes notes.
What a kernel needs is read off the machine code by the tools that Triton brings with it.
"""

import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import triton
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

# Of a program, at most, by compute capability: CUDA C++ Programming Guide, "Compute Capabilities".
SHARED_BYTES = {80: 166_912, 90: 232_448, 100: 232_448}
TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"


class Binary:
    """A compiled kernel: its machine code, and what that says.

    Attributes:
        name: The name of its function.
        code: The machine code, as the driver would load it.
        shared_bytes: Shared memory of a program.
    """

    def __init__(self, name: str, code: bytes, shared_bytes: int) -> None:
        self.name, self.code, self.shared_bytes = name, code, shared_bytes

    def _read_by(self, tool: str, *options: str) -> str:
        with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
            file.write(self.code)
            file.flush()
            command = [TOOLS / tool, *options, file.name]
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    @cached_property
    def usage(self) -> dict[str, int]:
        """What a thread uses: `REG` registers, and `STACK` and `LOCAL` bytes of spilled ones."""
        text = self._read_by("cuobjdump", "--dump-resource-usage")
        return {name: int(number) for name, number in re.findall(r"([A-Z]+):(\d+)", text)}

    @property
    def spilled_bytes(self) -> int:
        """Bytes of a thread that found no register."""
        return self.usage["STACK"] + self.usage["LOCAL"]

    @cached_property
    def _listing(self) -> tuple[list[str], list[tuple[int, int]]]:
        """The operations in order, and the first and last of each loop."""
        operations: list[str] = []
        labels: dict[str, int] = {}
        loops = []
        for line in self._read_by("nvdisasm", "-c").splitlines():
            if label := re.match(r"(\.L_x_\d+):", line):
                labels[label[1]] = len(operations)
            if found := re.match(r"\s+/\*[0-9a-f]+\*/\s+(?:@!?U?P\w+\s+)?(\w+)(.*)", line):
                operations.append(found[1])
                target = re.search(r"`\((\.L_x_\d+)\)", found[2])
                if found[1] == "BRA" and target and target[1] in labels:
                    loops.append((labels[target[1]], len(operations)))
        return operations, [(first, last) for first, last in loops if last - first > 1]

    @property
    def operations(self) -> list[str]:
        """The operations of the whole kernel, in order: `["LDC", "S2R", "IMAD", …]`."""
        return self._listing[0]

    @property
    def loops(self) -> list[list[str]]:
        """The operations of each loop: what lies between a label and a branch back to it."""
        return [self.operations[first:last] for first, last in self._listing[1]]


class Launch(NamedTuple):
    """One launch: the kernel, how many programs on each axis, and all arguments."""

    binary: Binary
    grid: tuple[int, int, int]
    arguments: tuple[Any, ...]


class AbsentGPU:
    """The driver of a GPU that is not there, in the place of Triton's own."""

    def __init__(self, capability: int) -> None:
        self.capability = capability
        self.launches: list[Launch] = []
        self.utils = self

    def get_current_device(self) -> int:
        """Return a number that no other target has: what is compiled is kept by it."""
        return self.capability

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self.capability, 32)

    def get_device_properties(self, device: int) -> dict[str, int]:
        return {"max_shared_mem": SHARED_BYTES[self.capability]}

    def load_binary(
        self, name: str, code: bytes, shared_bytes: int, device: int
    ) -> tuple[object, Binary, int, int, int]:
        """Return a module, the function, registers, spills, and the most threads of a program."""
        return object(), Binary(name, code, shared_bytes), 0, 0, 1024

    def launcher_cls(self, source: object, metadata: object) -> Any:
        def launch(
            x: int, y: int, z: int, stream: int, binary: Binary, packed: object, metadata: object,
            enter: object, leave: object, *arguments: object,
        ) -> None:  # fmt: skip
            driver.active.launches.append(Launch(binary, (x, y, z), arguments))

        return launch


@contextmanager
def launched_for(capability: int) -> Iterator[list[Launch]]:
    """Let Triton compile for a compute capability, as 90, and gather what it would launch."""
    before, absent = driver._active, AbsentGPU(capability)
    driver.set_active(absent)
    try:
        yield absent.launches
    finally:
        driver.set_active(before)
