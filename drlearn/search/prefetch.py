"""Asking for memory ahead: candidates lie anywhere in a table that no cache holds, and reading one waits."""

from __future__ import annotations

import numba
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from drlearn._runtime import kernel

_LINE = 64  # bytes of a cache line; where lines are longer some are asked for twice


@intrinsic
def _prefetch(typing_context, table, offset):
    """Ask for the cache line of the element at a flat offset of a C-contiguous array."""

    def generate(context, builder, signature, arguments):
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        address = builder.bitcast(builder.gep(array.data, [arguments[1]]), byte)
        kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        function = builder.module.declare_intrinsic("llvm.prefetch", [byte], kind)
        read, every_cache, data = number(0), number(3), number(1)
        builder.call(function, [address, read, every_cache, data])
        return context.get_dummy_value()

    return types.void(table, types.intp), generate


@kernel
def prefetch_run(table, start, stop):
    """Ask for elements of a C-contiguous array by flat offsets: nothing changes but how soon they come."""
    for offset in range(start, stop, _LINE // table.itemsize):
        _prefetch(table, offset)
    _prefetch(table, stop - 1)  # what begins within a line ends in one more


@kernel
def prefetch_row(table, row):
    """Ask for a row of a C-contiguous (n, dim) array."""
    prefetch_run(table, row * table.shape[1], (row + 1) * table.shape[1])


if numba.config.DISABLE_JIT:

    def prefetch_run(table, start, stop):
        """Do nothing, for want of a compiler."""
