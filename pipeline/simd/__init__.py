"""Vector instructions for numba kernels: what its auto-vectoriser does not find by itself.

`registers` holds values across loops, for SimpleFlow; `memory` works from memory to memory, for the
separable convolution; `llvm` emits what both are made of. Start reading at
`pipeline.simd.registers.load8`.

May import: nothing.
"""
