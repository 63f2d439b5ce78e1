// The same sums as simple.cu for the kernels that training and prediction need, faster. Comes after
// scalars.cu; compiled for one number of taps and channels:
//
//     -D TAPS=51 -D CHANNELS=3 -D ROWS=3    ROWS so that TAPS * ROWS weights fit in registers
//
// A block makes TILE_ROWS x LANES pixels, a thread ROWS pixels below each other. Of the two weights
// of each tap a thread keeps one kind in registers, TAPS * ROWS of them, read once. The samples lie
// in shared memory as floats, converted once for all the pixels that use them, in a ring: while
// some columns (or lines) are summed the next ones are read. A sample that is read from shared
// memory serves ROWS fused multiply-adds; loops over taps are unrolled, so that offsets are
// constants and nothing else is computed between them.
//
// The order of a sum is fixed. Pixels see the samples of their own window only, as in the formula.

#if defined(__CUDACC__) || defined(__CUDACC_RTC__) || defined(__HIP__)
#define UNROLL _Pragma("unroll")
#else
#define UNROLL
#endif

constexpr int LANES = 32;  // columns of a tile
constexpr int WARPS = 4;
constexpr int THREADS = LANES * WARPS;
constexpr int TILE_ROWS = WARPS * ROWS;
constexpr int STEP = 4;  // columns (or lines) that enter the ring at a time
constexpr int MIN_BLOCKS = 2;  // of a multiprocessor: no more than 255 registers a thread

static_assert(sizeof(SUM) == 4, "64-bit sums do not fit in registers");

struct pixel_t {
    index_t b, y, x;  // y of the first of ROWS pixels
    int warp, lane;
};

// Calls body(pixel, b, top, left) for each tile of this block; the same tiles for all its threads.
template <typename Body>
__device__ inline void for_each_tile(const sizes_t& n, Body body) {
    const index_t down = (n.height + TILE_ROWS - 1) / TILE_ROWS;
    const index_t across = (n.width + LANES - 1) / LANES;
    const int warp = static_cast<int>(threadIdx.x) / LANES;
    const int lane = static_cast<int>(threadIdx.x) % LANES;
    for (index_t tile = blockIdx.x; tile < n.batch * down * across; tile += gridDim.x) {
        const index_t b = tile / (down * across);
        const index_t top = tile / across % down * TILE_ROWS, left = tile % across * LANES;
        body(pixel_t{b, top + warp * ROWS, left + lane, warp, lane}, top, left);
        __syncthreads();  // the next tile's samples replace this one's
    }
}

// The weights of a thread's pixels; zeros outside the picture.
__device__ inline void read_weights(const tensor_t& weights, const sizes_t& n, const pixel_t& p,
                                    SUM (&weight)[ROWS][TAPS]) {
    UNROLL for (int row = 0; row < ROWS; ++row) {
        const bool inside = p.y + row < n.height && p.x < n.width;
        UNROLL for (int i = 0; i < TAPS; ++i)
            weight[row][i] = inside ? widen(*weights.at(p.b, i, p.y + row, p.x)) : SUM(0);
    }
}

// The gradient of a thread's pixels; zeros outside the picture.
__device__ inline void read_slopes(const tensor_t& gradient, const sizes_t& n, const pixel_t& p,
                                   SUM (&slope)[ROWS][CHANNELS]) {
    UNROLL for (int row = 0; row < ROWS; ++row) {
        const bool inside = p.y + row < n.height && p.x < n.width;
        UNROLL for (int c = 0; c < CHANNELS; ++c)
            slope[row][c] = inside ? widen(*gradient.at(p.b, c, p.y + row, p.x)) : SUM(0);
    }
}

__device__ inline SUM sample(const tensor_t& frame, const sizes_t& n, index_t b, int c, index_t y,
                             index_t x) {
    const bool inside = y < n.height + TAPS - 1 && x < n.width + TAPS - 1;
    return inside ? widen(*frame.at(b, c, y, x)) : SUM(0);
}

// For each column j of the taps calls
//     body(j, sum), sum[row][c] = sum over i of frame[b, c, y + row + i, x + j] * weight[row][i].
template <typename Body>
__device__ inline void sum_down(const tensor_t& frame, const sizes_t& n, const pixel_t& p,
                                index_t top, index_t left, const SUM (&weight)[ROWS][TAPS],
                                Body body) {
    constexpr int LINES = TILE_ROWS + TAPS - 1;
    constexpr int RING = LANES + 2 * STEP;  // what a step reads, and what enters meanwhile
    __shared__ SUM ring[CHANNELS][LINES][RING];

    const auto enter = [&](int first, int count) {
        for (int k = threadIdx.x; k < CHANNELS * LINES * count; k += THREADS) {
            const int column = first + k % count, line = k / count % LINES, c = k / count / LINES;
            ring[c][line][column % RING] = sample(frame, n, p.b, c, top + line, left + column);
        }
    };
    enter(0, LANES + STEP);
    __syncthreads();
    for (int first = 0; first < TAPS; first += STEP) {
        if (first + STEP < TAPS) enter(first + STEP + LANES, STEP);
        for (int j = first; j < first + STEP && j < TAPS; ++j) {
            const int column = (p.lane + j) % RING;
            SUM sum[ROWS][CHANNELS] = {};
            UNROLL for (int r = 0; r < TAPS + ROWS - 1; ++r)
                UNROLL for (int c = 0; c < CHANNELS; ++c) {
                    const SUM value = ring[c][p.warp * ROWS + r][column];
                    UNROLL for (int row = 0; row < ROWS; ++row)
                        if (r - row >= 0 && r - row < TAPS)
                            sum[row][c] += value * weight[row][r - row];
                }
            body(j, sum);
        }
        __syncthreads();
    }
}

// For each line r of the frame that a thread's pixels see calls
//     body(r, sum), sum[row][c] = sum over j of frame[b, c, y + r, x + j] * weight[row][j].
template <typename Body>
__device__ inline void sum_along(const tensor_t& frame, const sizes_t& n, const pixel_t& p,
                                 index_t top, index_t left, const SUM (&weight)[ROWS][TAPS],
                                 Body body) {
    constexpr int COLUMNS = LANES + TAPS - 1;
    constexpr int BELOW = (WARPS - 1) * ROWS;  // lines by which the last warp is ahead
    constexpr int RING = BELOW + 2 * STEP;
    constexpr int LINES = TAPS + ROWS - 1;
    __shared__ SUM ring[CHANNELS][RING][COLUMNS];

    const auto enter = [&](int first, int count) {
        for (int k = threadIdx.x; k < CHANNELS * count * COLUMNS; k += THREADS) {
            const int column = k % COLUMNS, line = first + k / COLUMNS % count;
            const int c = k / COLUMNS / count;
            ring[c][line % RING][column] = sample(frame, n, p.b, c, top + line, left + column);
        }
    };
    enter(0, BELOW + STEP);
    __syncthreads();
    for (int first = 0; first < LINES; first += STEP) {
        if (first + STEP < LINES) enter(first + STEP + BELOW, STEP);
        for (int r = first; r < first + STEP && r < LINES; ++r) {
            const int line = (p.warp * ROWS + r) % RING;
            SUM sum[ROWS][CHANNELS] = {};
            UNROLL for (int j = 0; j < TAPS; ++j)
                UNROLL for (int c = 0; c < CHANNELS; ++c) {
                    const SUM value = ring[c][line][p.lane + j];
                    UNROLL for (int row = 0; row < ROWS; ++row)
                        sum[row][c] += value * weight[row][j];
                }
            body(r, sum);
        }
        __syncthreads();
    }
}

__device__ inline SUM over_channels(const SUM (&sum)[CHANNELS], const SUM (&slope)[CHANNELS]) {
    SUM total = 0;
    UNROLL for (int c = 0; c < CHANNELS; ++c) total += sum[c] * slope[c];
    return total;
}

extern "C" __global__ void __launch_bounds__(THREADS, MIN_BLOCKS)
    forward(TENSOR(frame), TENSOR(vertical), TENSOR(horizontal), RESULT(output), SIZES) {
    const sizes_t n = GATHERED_SIZES;
    const tensor_t f = GATHERED(frame), v = GATHERED(vertical), h = GATHERED(horizontal);
    const result_t o = GATHERED(output);
    for_each_tile(n, [&](const pixel_t& p, index_t top, index_t left) {
        SUM weight[ROWS][TAPS], pixel[ROWS][CHANNELS] = {};
        read_weights(v, n, p, weight);
        sum_down(f, n, p, top, left, weight, [&](int j, const SUM (&sum)[ROWS][CHANNELS]) {
            UNROLL for (int row = 0; row < ROWS; ++row) {
                const bool inside = p.y + row < n.height && p.x < n.width;
                const SUM across = inside ? widen(*h.at(p.b, j, p.y + row, p.x)) : SUM(0);
                UNROLL for (int c = 0; c < CHANNELS; ++c) pixel[row][c] += sum[row][c] * across;
            }
        });
        UNROLL for (int row = 0; row < ROWS; ++row)
            UNROLL for (int c = 0; c < CHANNELS; ++c)
                if (p.y + row < n.height && p.x < n.width)
                    o.put(p.b, c, p.y + row, p.x, pixel[row][c]);
    });
}

// Of the horizontal kernels: sum over c of gradient * (the sum down column j)
extern "C" __global__ void __launch_bounds__(THREADS, MIN_BLOCKS)
    horizontal_gradient(TENSOR(gradient), TENSOR(frame), TENSOR(vertical), RESULT(output), SIZES) {
    const sizes_t n = GATHERED_SIZES;
    const tensor_t g = GATHERED(gradient), f = GATHERED(frame), v = GATHERED(vertical);
    const result_t o = GATHERED(output);
    for_each_tile(n, [&](const pixel_t& p, index_t top, index_t left) {
        SUM weight[ROWS][TAPS], slope[ROWS][CHANNELS];
        read_weights(v, n, p, weight);
        read_slopes(g, n, p, slope);
        sum_down(f, n, p, top, left, weight, [&](int j, const SUM (&sum)[ROWS][CHANNELS]) {
            UNROLL for (int row = 0; row < ROWS; ++row)
                if (p.y + row < n.height && p.x < n.width)
                    o.put(p.b, j, p.y + row, p.x, over_channels(sum[row], slope[row]));
        });
    });
}

// Of the vertical kernels: sum over c of gradient * (the sum along line y + i)
extern "C" __global__ void __launch_bounds__(THREADS, MIN_BLOCKS)
    vertical_gradient(TENSOR(gradient), TENSOR(frame), TENSOR(horizontal), RESULT(output), SIZES) {
    const sizes_t n = GATHERED_SIZES;
    const tensor_t g = GATHERED(gradient), f = GATHERED(frame), h = GATHERED(horizontal);
    const result_t o = GATHERED(output);
    for_each_tile(n, [&](const pixel_t& p, index_t top, index_t left) {
        SUM weight[ROWS][TAPS], slope[ROWS][CHANNELS];
        read_weights(h, n, p, weight);
        read_slopes(g, n, p, slope);
        sum_along(f, n, p, top, left, weight, [&](int r, const SUM (&sum)[ROWS][CHANNELS]) {
            UNROLL for (int row = 0; row < ROWS; ++row) {
                const int i = r - row;
                if (i >= 0 && i < TAPS && p.y + row < n.height && p.x < n.width)
                    o.put(p.b, i, p.y + row, p.x, over_channels(sum[row], slope[row]));
            }
        });
    });
}
