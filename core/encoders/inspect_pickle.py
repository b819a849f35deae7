"""The gate before a PyTorch checkpoint is opened: which names its pickle asks for, read without building anything.

A pickle is a program. This reads its instructions with ``pickletools`` and follows what they do to the stack only so
far as to know, exactly, the names they would import; ``pickle_policy`` says what is thought of each.
"""

from __future__ import annotations

import io
import pickletools
import struct
from collections.abc import Iterator
from typing import Any, BinaryIO

from core.encoders.pickle_policy import Treatment, treatment
from core.errors import UnsupportedInput

MAX_PICKLE_BYTES = 64 * 2**20
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C

_ALLOWED_OPCODES = frozenset(
    "PROTO FRAME STOP GLOBAL STACK_GLOBAL NEWOBJ NEWOBJ_EX REDUCE BUILD APPEND APPENDS SETITEM SETITEMS ADDITEMS MARK "
    "POP POP_MARK TUPLE TUPLE1 TUPLE2 TUPLE3 LIST DICT FROZENSET NONE NEWFALSE NEWTRUE EMPTY_TUPLE EMPTY_LIST "
    "EMPTY_DICT EMPTY_SET BININT BININT1 BININT2 BINFLOAT BINUNICODE SHORT_BINUNICODE BINUNICODE8 SHORT_BINSTRING "
    "BINSTRING SHORT_BINBYTES BINBYTES BINBYTES8 BYTEARRAY8 BINPERSID BINGET LONG_BINGET BINPUT LONG_BINPUT MEMOIZE "
    "LONG1".split()
)


def inspect_legacy_checkpoint(file: BinaryIO) -> None:
    """Check a checkpoint in the older form of ``torch.save``: five pickles, then the raw numbers.

    Raises:
        UnsupportedInput: ``unsafe_pickle``, or ``unknown_format`` for a pickle that torch.save did not write.
    """
    head = io.BytesIO(file.read(MAX_PICKLE_BYTES))
    values = check_pickle(head)
    if _LEGACY_MAGIC not in values:
        raise UnsupportedInput(
            "unknown_format",
            field="encoder",
            found="a pickle that torch.save did not write",
            expected="a safetensors file or a state dict saved by torch.save",
            action="Save the state dict with safetensors.torch.save_file.",
        )
    for _ in range(4):
        check_pickle(head)


def check_pickle(stream: io.BytesIO) -> list[object]:
    """Walk one pickle; returns the integers it pushes. Nothing is built, nothing is imported.

    Raises:
        UnsupportedInput: ``unsafe_pickle``, or ``unknown_format`` where it is damaged.
    """
    constants: list[object] = []
    for name, argument, imported in _instructions(stream):
        if imported is not None and treatment(imported) is Treatment.HOSTILE:
            raise UnsupportedInput(
                "unsafe_pickle",
                field="encoder",
                found=f"a pickle that calls {ascii(imported)[1:-1][:120]}; it was not opened",
                expected="a state dict: tensors by name, nothing that runs",
                action="If it is your own checkpoint, save model.state_dict() with safetensors.torch.save_file."
                " If it came from others, treat the file as hostile.",
            )
        if name not in _ALLOWED_OPCODES:
            raise UnsupportedInput(
                "unsafe_pickle",
                field="encoder",
                found=f"a pickle with the instruction {name}, which no state dict needs; it was not opened",
                expected="a state dict saved by torch.save with its default settings",
                action="Save model.state_dict() with safetensors.torch.save_file.",
            )
        if isinstance(argument, int):
            constants.append(argument)
    return constants


def _instructions(stream: io.BytesIO) -> Iterator[tuple[str, Any, str | None]]:
    """(opcode, argument, global it imports) up to STOP.

    Refusals must name a global if there is one, so an instruction that is not allowed is reported only after the rest
    has been searched for one.
    """
    stack = _Stack()
    refused: list[tuple[str, Any, str | None]] = []
    try:
        for opcode, argument, _ in pickletools.genops(stream):
            imported = None
            if opcode.name in ("GLOBAL", "INST"):
                imported = str(argument).replace(" ", ".", 1)
            elif opcode.name == "STACK_GLOBAL":
                imported = stack.global_name()
            elif opcode.name.startswith("EXT"):
                imported = f"extension {argument}"
            stack.follow(opcode, argument)
            if imported is None and opcode.name not in _ALLOWED_OPCODES:
                refused = refused or [(opcode.name, argument, None)]
            else:
                yield opcode.name, argument, imported
    except (ValueError, IndexError, KeyError, UnicodeError, struct.error, OverflowError) as failure:
        raise UnsupportedInput(
            "unknown_format",
            field="encoder",
            found=f"a damaged or cut-off pickle ({str(failure)[:80]})",
            expected="a complete file written by torch.save",
            action="Copy the file again.",
        ) from failure
    yield from refused


class _Stack:
    """The pickle machine's stack and memo, of which only texts and marks are known; anything else is None."""

    def __init__(self) -> None:
        self._values: list[Any] = []
        self._memo: dict[int, Any] = {}

    def global_name(self) -> str:
        """The name that STACK_GLOBAL is about to import; words that are no name where it is not given as two texts."""
        module, name = self._values[-2:]
        texts = isinstance(module, str) and isinstance(name, str)
        return f"{module}.{name}" if texts else "a name that it computes"

    def follow(self, opcode: pickletools.OpcodeInfo, argument: Any) -> None:
        """Do to the stack what ``opcode`` does."""
        values, memo = self._values, self._memo
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            memo[len(memo) if argument is None else argument] = values[-1]
            return
        before, after = opcode.stack_before, opcode.stack_after
        if pickletools.markobject in before or (opcode.name == "POP" and values[-1] is _MARK):
            while values.pop() is not _MARK:
                pass
            before = before[: before.index(pickletools.markobject)] if pickletools.markobject in before else []
        for _ in before:
            values.pop()
        if opcode.name in ("GET", "BINGET", "LONG_BINGET"):
            values.append(memo[argument])
        elif opcode.name == "DUP":
            values += [None, None]
        else:
            known = argument if "UNICODE" in opcode.name or "STRING" in opcode.name else None
            values += [_MARK if kind is pickletools.markobject else known for kind in after]


_MARK = object()
