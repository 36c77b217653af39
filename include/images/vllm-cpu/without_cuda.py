#!/usr/bin/env python3
"""Makes a CUDA build of PyTorch load without CUDA's libraries.

PyPI has PyTorch for Linux only as a CUDA build. A process that computes on the CPU never runs the 4 GB of CUDA
code, but its libraries name libtorch_cuda.so and four of NVIDIA's at load, so they must be there. This puts small
stand-ins in their places: each symbol that the kept libraries want is defined, and whoever calls one gets a clear
message and an abort in place of a wrong answer. The real libc10_cuda.so and libcudart.so stay: it is they that say,
as on any machine without an NVIDIA driver, that there is no device.

    without_cuda.py TORCH_LIB_FOLDER      (needs as, ld and nm on the path)
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

KEPT = (
    "libc10.so",
    "libc10_cuda.so",
    "libshm.so",
    "libtorch.so",
    "libtorch_cpu.so",
    "libtorch_global_deps.so",
    "libtorch_python.so",
)
REAL = "libtorch_cuda.so"
# Every symbol without a version goes into the stand-in of libtorch_cuda.so: the loader looks in all of them.
STAND_INS = (REAL, "libcudnn.so.9", "libcufile.so.0", "libcupti.so.13", "libnccl.so.2")
GONE = ("libcaffe2_nvrtc.so", "libtorch_cuda_linalg.so", "libtorch_nvshmem.so")
SYSTEM = tuple(
    Path("/lib/x86_64-linux-gnu") / name
    for name in ("libc.so.6", "libgcc_s.so.1", "libm.so.6", "libstdc++.so.6")
)
# What torch calls while it is imported: this returns a reference to a variable that torch_python then sets,
REFERENCES = ("_ZN4c10d15get_gil_checkerEv",)
# and this makes the default value of an argument: an object that is all zeros, with its vtable in torch_python.
CONSTRUCTORS = {"_ZN4c10d16ProcessGroupNCCL7OptionsC1Eb": "_ZTVN4c10d16ProcessGroupNCCL7OptionsE"}
OTHERS = re.compile(r"^_?Py|@(GLIBC|GLIBCXX|CXXABI|GCC|GOMP|OMP|libcudart)")

HEAD = """
.section .text
fail:
    mov $1, %eax
    mov $2, %edi
    lea message(%rip), %rsi
    mov $message_size, %edx
    syscall
    mov $1, %eax
    mov $2, %edi
    mov %r12, %rsi
    mov %r13, %rdx
    syscall
    ud2
.section .rodata
message: .ascii "This image has no CUDA: something called "
.set message_size, . - message
"""

CONSTRUCTOR = """
    push %rbx
    mov %rdi, %rbx
    call malloc_usable_size@PLT
    mov %rbx, %rdi
    xor %esi, %esi
    mov %rax, %rdx
    call memset@PLT
    mov {}@GOTPCREL(%rip), %rax
    add $16, %rax
    mov %rax, (%rbx)
    pop %rbx
    ret
"""


def symbols(library: Path, *options: str) -> dict[str, tuple[str, int]]:
    """The dynamic symbols of a library: kind and size by name, with the version in the name where it has one."""
    listed = subprocess.run(
        ["nm", "-D", "-P", *options, str(library)], capture_output=True, text=True, check=True
    ).stdout
    found = {}
    for line in listed.splitlines():
        name, kind, *numbers = line.split()
        found[name.replace("@@", "@")] = (kind, int(numbers[1], 16) if len(numbers) > 1 else 0)
    return found


def wanted(folder: Path) -> set[str]:
    """What the kept libraries need and none of them, nor the system's, nor Python, defines."""
    needed: set[str] = set()
    defined: set[str] = set()
    for name in KEPT:
        # A weak symbol may stay undefined.
        needed |= {
            each for each, (kind, _) in symbols(folder / name, "--undefined-only").items() if kind == "U"
        }
        defined |= {each.partition("@")[0] for each in symbols(folder / name, "--defined-only")}
    for library in SYSTEM:
        defined |= {each.partition("@")[0] for each in symbols(library, "--defined-only")}
    return {each for each in needed if each.partition("@")[0] not in defined and not OTHERS.search(each)}


def assembly(names: list[str], real: dict[str, tuple[str, int]]) -> str:
    """Definitions of the symbols: functions that fail, type records that are true, tables of failing functions."""
    lines = [HEAD]
    for number, name in enumerate(names):
        kind, size = real.get(name, ("T", 0))
        lines += [f".globl {name}"]
        if name.startswith("_ZTI"):
            # pybind11 keys its registry by these while torch is imported, so they have to be whole.
            lines += [
                f'.section .data.rel.ro,"aw"\n.balign 8\n.type {name}, @object\n.size {name}, 16',
                f"{name}: .quad _ZTVN10__cxxabiv117__class_type_infoE+16, type{number}",
                f'.section .rodata\ntype{number}: .asciz "{name[4:]}"',
            ]
        elif name in REFERENCES:
            lines += [
                f".section .text\n.type {name}, @function\n{name}: lea variable{number}(%rip), %rax\n    ret",
                f".lcomm variable{number}, 64",
            ]
        elif name in CONSTRUCTORS:
            lines += [
                f".section .text\n.type {name}, @function\n{name}:",
                CONSTRUCTOR.format(CONSTRUCTORS[name]),
            ]
        elif kind in "TtWi" and not name.startswith("_ZTV"):
            text = f"{name}\\n"
            lines += [
                f".section .text\n.type {name}, @function\n{name}:",
                f"    lea name{number}(%rip), %r12\n    mov $name{number}_size, %r13d\n    jmp fail",
                f'.section .rodata\nname{number}: .ascii "{text}"\n.set name{number}_size, . - name{number}',
            ]
        elif name.startswith("_ZTV"):
            table = ", ".join(["0", "0"] + ["fail"] * (size // 8 - 2))
            lines += [
                f'.section .data.rel.ro,"aw"\n.balign 8\n.type {name}, @object\n.size {name}, {size}',
                f"{name}: .quad {table}",
            ]
        else:
            raise SystemExit(
                f"without_cuda.py: {name} is data of an unknown kind ({kind}): torch has changed"
            )
    return "\n".join([*lines, '.section .note.GNU-stack,"",@progbits', ""])


def make(folder: Path, library: str, names: list[str], real: dict[str, tuple[str, int]]) -> None:
    """Assemble and link one stand-in in the place of a library."""
    versions = {name.partition("@")[2] for name in names} - {""}
    with tempfile.TemporaryDirectory() as scratch:
        source, thing, script = (Path(scratch) / name for name in ("s.s", "s.o", "s.map"))
        source.write_text(assembly([name.partition("@")[0] for name in names], real), encoding="utf-8")
        subprocess.run(["as", "-o", str(thing), str(source)], check=True)
        link = ["ld", "-shared", "-soname", library, "-z", "relro", "-z", "noexecstack"]
        if versions:
            (version,) = versions
            script.write_text(f"{version} {{ global: *; }};\n", encoding="utf-8")
            link += ["--version-script", str(script)]
        built = folder / f".{library}"
        # Linked against libstdc++ it would need libstdc++'s linker script; torch has it loaded already.
        subprocess.run([*link, "-o", str(built), str(thing)], check=True)
        built.chmod(0o755)
        built.replace(folder / library)


def main(folder: Path) -> None:
    """Put every stand-in in its place."""
    real = symbols(folder / REAL, "--defined-only")
    missing = wanted(folder)
    for library in STAND_INS:
        versioned = {name for name in missing if name.endswith(f"@{library}")}
        names = versioned if library != REAL else {name for name in missing if "@" not in name}
        missing -= versioned if library != REAL else names
        make(folder, library, sorted(names), real)
    if missing:
        raise SystemExit(
            f"without_cuda.py: nothing stands in for {', '.join(sorted(missing))}: torch has changed"
        )
    for name in GONE:
        (folder / name).unlink(missing_ok=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
