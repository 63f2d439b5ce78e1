// What sepconv.cu needs of CUDA, for a C++ compiler: the file runs on the CPU, a thread at a time.
//
// It says something because the kernels neither share memory nor synchronise: on a GPU the same
// threads run in another order, and nothing else differs but the rounding of fused multiply-adds.

#pragma once

#include <cstddef>
#include <cstring>
#include <utility>

#define __global__
#define __device__

struct position_t {
    unsigned int x;
};

static position_t gridDim, blockDim, blockIdx, threadIdx;

template <typename To, typename From>
static To same_bits(From value) {
    static_assert(sizeof(To) == sizeof(From));
    To result;
    std::memcpy(&result, &value, sizeof result);
    return result;
}

[[maybe_unused]] static float __uint_as_float(unsigned int bits) { return same_bits<float>(bits); }
[[maybe_unused]] static unsigned int __float_as_uint(float value) {
    return same_bits<unsigned int>(value);
}
[[maybe_unused]] static float half_bits_to_float(unsigned short bits) {
    return static_cast<float>(same_bits<_Float16>(bits));
}
[[maybe_unused]] static unsigned short float_to_half_bits(float value) {
    return same_bits<unsigned short>(static_cast<_Float16>(value));
}

// As cuLaunchKernel: `values` holds the addresses of the kernel's arguments.
template <typename... Arguments, std::size_t... Index>
static void run_grid(void (*kernel)(Arguments...), unsigned int blocks, unsigned int threads,
                     void** values, std::index_sequence<Index...>) {
    gridDim.x = blocks;
    blockDim.x = threads;
    for (blockIdx.x = 0; blockIdx.x < blocks; ++blockIdx.x)
        for (threadIdx.x = 0; threadIdx.x < threads; ++threadIdx.x)
            kernel(*static_cast<Arguments*>(values[Index])...);
}

template <typename... Arguments>
static void launch(void (*kernel)(Arguments...), unsigned int blocks, unsigned int threads,
                   void** values) {
    run_grid(kernel, blocks, threads, values, std::index_sequence_for<Arguments...>{});
}

#define LAUNCHER(name)                                                                         \
    extern "C" void launch_##name(unsigned int blocks, unsigned int threads, void** values) { \
        launch(name, blocks, threads, values);                                                 \
    }
