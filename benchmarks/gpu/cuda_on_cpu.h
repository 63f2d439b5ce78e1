// What the kernels need of CUDA, for a C++ compiler: they run on the CPU, a block after the other.
//
// Kernels that neither share memory nor synchronise run a thread at a time; on a GPU the same
// threads run in another order, and nothing else differs but the rounding of fused multiply-adds.
// With -D SHARED each block runs as so many threads of the system, with a barrier.

#pragma once

#include <pthread.h>

#include <cstddef>
#include <cstring>
#include <functional>
#include <thread>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __shared__ static
#define __launch_bounds__(...)

struct position_t {
    unsigned int x;
};

static position_t gridDim, blockDim;
static thread_local position_t blockIdx, threadIdx;

static pthread_barrier_t block_barrier;
[[maybe_unused]] static void __syncthreads() { pthread_barrier_wait(&block_barrier); }

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
    const auto run = [&](unsigned int block, unsigned int thread) {
        blockIdx.x = block;
        threadIdx.x = thread;
        kernel(*static_cast<Arguments*>(values[Index])...);
    };
#ifdef SHARED
    pthread_barrier_init(&block_barrier, nullptr, threads);
    std::vector<std::thread> team;
    for (unsigned int thread = 0; thread < threads; ++thread)
        team.emplace_back([&, thread] {
            for (unsigned int block = 0; block < blocks; ++block) {
                run(block, thread);
                __syncthreads();
            }
        });
    for (std::thread& member : team) member.join();
    pthread_barrier_destroy(&block_barrier);
#else
    for (unsigned int block = 0; block < blocks; ++block)
        for (unsigned int thread = 0; thread < threads; ++thread) run(block, thread);
#endif
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
