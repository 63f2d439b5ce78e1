// What all kernels share: element types, and tensors as they lie in memory. Compiled with
//
//     -D SCALAR=float, double, half_t or bfloat16_t    the elements
//     -D INDEX=int or "long long"                      int where no tensor spans 2^29 elements
//
// Sums run in SUM: float for the 16-bit types, whose products are exact in it.

using index_t = INDEX;
using wide_t = long long;  // of arguments: every one has 8 bytes

struct half_t {
    unsigned short bits;
};
struct bfloat16_t {
    unsigned short bits;
};

template <typename T>
struct sum_type {
    using type = float;
};
template <>
struct sum_type<double> {
    using type = double;
};

using SUM = sum_type<SCALAR>::type;

__device__ inline double widen(double value) { return value; }
__device__ inline float widen(float value) { return value; }
__device__ inline float widen(bfloat16_t value) {
    return __uint_as_float(static_cast<unsigned int>(value.bits) << 16);
}

__device__ inline void narrow(double value, double& result) { result = value; }
__device__ inline void narrow(float value, float& result) { result = value; }
__device__ inline void narrow(float value, bfloat16_t& result) {
    const unsigned int bits = __float_as_uint(value);
    const bool nan = (bits & 0x7fffffffu) > 0x7f800000u;
    const unsigned int even = bits + 0x7fffu + ((bits >> 16) & 1u);  // to nearest, ties to even
    result.bits = static_cast<unsigned short>(nan ? (bits >> 16) | 0x40u : even >> 16);
}

#ifdef __CUDA_ARCH__
__device__ inline float widen(half_t value) {
    float result;
    asm("cvt.f32.f16 %0, %1;" : "=f"(result) : "h"(value.bits));
    return result;
}
__device__ inline void narrow(float value, half_t& result) {
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(result.bits) : "f"(value));
}
#elif defined(__HIP__)
__device__ inline float widen(half_t value) {
    return static_cast<float>(__builtin_bit_cast(_Float16, value.bits));
}
__device__ inline void narrow(float value, half_t& result) {
    result.bits = __builtin_bit_cast(unsigned short, static_cast<_Float16>(value));
}
#else  // a C++ compiler
[[maybe_unused]] inline float widen(half_t value) { return half_bits_to_float(value.bits); }
inline void narrow(float value, half_t& result) { result.bits = float_to_half_bits(value); }
#endif

// A tensor of four dimensions, as it lies in memory; strides in elements.
struct tensor_t {
    const SCALAR* data;
    index_t batch, depth, row, column;

    __device__ const SCALAR* at(index_t b, index_t n, index_t y, index_t x) const {
        return data + b * batch + n * depth + y * row + x * column;
    }
};

struct result_t {
    SCALAR* data;
    index_t batch, depth, row, column;

    __device__ void put(index_t b, index_t n, index_t y, index_t x, SUM value) const {
        narrow(value, data[b * batch + n * depth + y * row + x * column]);
    }
};

#define TENSOR(name)                                                              \
    const SCALAR *name##_data, wide_t name##_0, wide_t name##_1, wide_t name##_2, \
        wide_t name##_3
#define RESULT(name) \
    SCALAR *name##_data, wide_t name##_0, wide_t name##_1, wide_t name##_2, wide_t name##_3
#define SIZES wide_t batch, wide_t channels, wide_t taps, wide_t height, wide_t width
#define GATHERED(name)                                                                 \
    {name##_data, static_cast<index_t>(name##_0), static_cast<index_t>(name##_1),      \
     static_cast<index_t>(name##_2), static_cast<index_t>(name##_3)}
#define GATHERED_SIZES                                                                 \
    {static_cast<index_t>(batch), static_cast<index_t>(channels),                      \
     static_cast<index_t>(taps), static_cast<index_t>(height), static_cast<index_t>(width)}

struct sizes_t {
    index_t batch, channels, taps, height, width;  // of the output; the frame is taps - 1 larger
};
