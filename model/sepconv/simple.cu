// The separable convolution and its three gradients on CUDA, from the formula
//
//     out[b,c,y,x] = sum over i, j < taps of
//                    frame[b,c,y+i,x+j] * vertical[b,i,y,x] * horizontal[b,j,y,x]
//
// For any sizes and strides, and what the tiled kernels are compared with. Comes after scalars.cu.
//
// A thread takes ROWS pixels below each other, so that a sample of the frame read once serves all
// of them, and neighbouring threads take neighbouring columns, so that reads coalesce. Sums run in
// SUM (float for the 16-bit types) and in a fixed order: no atomics, the same result every time.
// No shared memory and no warp intrinsics: what the kernels compute does not depend on how threads
// are scheduled, and a C++ compiler can run them one thread after the other.
//
// Work beyond the grid is reached by striding, so any grid is right.

constexpr int ROWS = 4;      // output rows (frame_gradient: frame rows) per thread
constexpr int STEPS = 2;     // neighbouring taps summed at once
constexpr int CHANNELS = 3;  // channels summed at once

constexpr int THREADS = 128;   // of a block, at most
// Of a multiprocessor: no more than 128 registers a thread, or 255 for sums of 64 bits.
constexpr int MIN_BLOCKS = sizeof(SUM) == 4 ? 4 : 2;

// Calls body(b, y, x) for the first of ROWS rows of each group of pixels that this thread owns.
template <typename Body>
__device__ inline void for_each_group(index_t batch, index_t height, index_t width, Body body) {
    const index_t groups = (height + ROWS - 1) / ROWS;
    const index_t stride = static_cast<index_t>(gridDim.x) * blockDim.x;
    index_t item = static_cast<index_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    for (; item < batch * groups * width; item += stride) {
        body(item / (groups * width), item / width % groups * ROWS, item % width);
    }
}

// sum[row][s][k] = sum over i of
//                  frame[b, c + k, y + row + i, x + j + s] * vertical[b, i, y + row, x]
__device__ inline void sum_down(const tensor_t& frame, const tensor_t& vertical, const sizes_t& n,
                                index_t b, index_t c, index_t y, index_t x, index_t j,
                                SUM (&sum)[ROWS][STEPS][CHANNELS]) {
    for (int row = 0; row < ROWS; ++row)
        for (int s = 0; s < STEPS; ++s)
            for (int k = 0; k < CHANNELS; ++k) sum[row][s][k] = 0;
    for (index_t r = 0; r < n.taps + ROWS - 1 && y + r < n.height + n.taps - 1; ++r) {
        SUM sample[STEPS][CHANNELS];
        for (int s = 0; s < STEPS; ++s)
            for (int k = 0; k < CHANNELS; ++k) {
                const bool inside = j + s < n.taps && c + k < n.channels;
                sample[s][k] = inside ? widen(*frame.at(b, c + k, y + r, x + j + s)) : SUM(0);
            }
        for (int row = 0; row < ROWS; ++row) {
            const index_t i = r - row;
            if (i < 0 || i >= n.taps || y + row >= n.height) continue;
            const SUM weight = widen(*vertical.at(b, i, y + row, x));
            for (int s = 0; s < STEPS; ++s)
                for (int k = 0; k < CHANNELS; ++k) sum[row][s][k] += sample[s][k] * weight;
        }
    }
}

// sum[row][s][k] = sum over j of
//                  frame[b, c + k, y + r + s, x + j] * horizontal[b, j, y + row, x]
__device__ inline void sum_along(const tensor_t& frame, const tensor_t& horizontal,
                                 const sizes_t& n, index_t b, index_t c, index_t y, index_t x,
                                 index_t r, SUM (&sum)[ROWS][STEPS][CHANNELS]) {
    for (int row = 0; row < ROWS; ++row)
        for (int s = 0; s < STEPS; ++s)
            for (int k = 0; k < CHANNELS; ++k) sum[row][s][k] = 0;
    for (index_t j = 0; j < n.taps; ++j) {
        SUM sample[STEPS][CHANNELS];
        for (int s = 0; s < STEPS; ++s)
            for (int k = 0; k < CHANNELS; ++k) {
                const bool inside = y + r + s < n.height + n.taps - 1 && c + k < n.channels;
                sample[s][k] = inside ? widen(*frame.at(b, c + k, y + r + s, x + j)) : SUM(0);
            }
        for (int row = 0; row < ROWS; ++row) {
            if (y + row >= n.height) continue;
            const SUM weight = widen(*horizontal.at(b, j, y + row, x));
            for (int s = 0; s < STEPS; ++s)
                for (int k = 0; k < CHANNELS; ++k) sum[row][s][k] += sample[s][k] * weight;
        }
    }
}

extern "C" __global__ void __launch_bounds__(THREADS, MIN_BLOCKS) forward(TENSOR(frame), TENSOR(vertical), TENSOR(horizontal),
                                   RESULT(output), SIZES) {
    const sizes_t n = GATHERED_SIZES;
    const tensor_t f = GATHERED(frame), v = GATHERED(vertical), h = GATHERED(horizontal);
    const result_t o = GATHERED(output);
    for_each_group(n.batch, n.height, n.width, [&](index_t b, index_t y, index_t x) {
        for (index_t c = 0; c < n.channels; c += CHANNELS) {
            SUM pixel[ROWS][CHANNELS] = {};
            for (index_t j = 0; j < n.taps; j += STEPS) {
                SUM sum[ROWS][STEPS][CHANNELS];
                sum_down(f, v, n, b, c, y, x, j, sum);
                for (int row = 0; row < ROWS; ++row)
                    for (int s = 0; s < STEPS; ++s) {
                        if (y + row >= n.height || j + s >= n.taps) continue;
                        const SUM weight = widen(*h.at(b, j + s, y + row, x));
                        for (int k = 0; k < CHANNELS; ++k)
                            pixel[row][k] += sum[row][s][k] * weight;
                    }
            }
            for (int row = 0; row < ROWS; ++row)
                for (int k = 0; k < CHANNELS; ++k)
                    if (y + row < n.height && c + k < n.channels)
                        o.put(b, c + k, y + row, x, pixel[row][k]);
        }
    });
}

// Of the horizontal kernels: sum over c of gradient * (the sum down column j)
extern "C" __global__ void __launch_bounds__(THREADS, MIN_BLOCKS) horizontal_gradient(TENSOR(gradient), TENSOR(frame), TENSOR(vertical),
                                               RESULT(output), SIZES) {
    const sizes_t n = GATHERED_SIZES;
    const tensor_t g = GATHERED(gradient), f = GATHERED(frame), v = GATHERED(vertical);
    const result_t o = GATHERED(output);
    for_each_group(n.batch, n.height, n.width, [&](index_t b, index_t y, index_t x) {
        for (index_t j = 0; j < n.taps; j += STEPS) {
            SUM total[ROWS][STEPS] = {};
            for (index_t c = 0; c < n.channels; c += CHANNELS) {
                SUM sum[ROWS][STEPS][CHANNELS];
                sum_down(f, v, n, b, c, y, x, j, sum);
                for (int row = 0; row < ROWS; ++row)
                    for (int k = 0; k < CHANNELS; ++k) {
                        if (y + row >= n.height || c + k >= n.channels) continue;
                        const SUM slope = widen(*g.at(b, c + k, y + row, x));
                        for (int s = 0; s < STEPS; ++s) total[row][s] += sum[row][s][k] * slope;
                    }
            }
            for (int row = 0; row < ROWS; ++row)
                for (int s = 0; s < STEPS; ++s)
                    if (y + row < n.height && j + s < n.taps)
                        o.put(b, j + s, y + row, x, total[row][s]);
        }
    });
}

// Of the vertical kernels: sum over c of gradient * (the sum along row y + i)
extern "C" __global__ void __launch_bounds__(THREADS, MIN_BLOCKS) vertical_gradient(TENSOR(gradient), TENSOR(frame), TENSOR(horizontal),
                                             RESULT(output), SIZES) {
    const sizes_t n = GATHERED_SIZES;
    const tensor_t g = GATHERED(gradient), f = GATHERED(frame), h = GATHERED(horizontal);
    const result_t o = GATHERED(output);
    for_each_group(n.batch, n.height, n.width, [&](index_t b, index_t y, index_t x) {
        for (index_t r = 0; r < n.taps + ROWS - 1; r += STEPS) {
            SUM total[ROWS][STEPS] = {};
            for (index_t c = 0; c < n.channels; c += CHANNELS) {
                SUM sum[ROWS][STEPS][CHANNELS];
                sum_along(f, h, n, b, c, y, x, r, sum);
                for (int row = 0; row < ROWS; ++row)
                    for (int k = 0; k < CHANNELS; ++k) {
                        if (y + row >= n.height || c + k >= n.channels) continue;
                        const SUM slope = widen(*g.at(b, c + k, y + row, x));
                        for (int s = 0; s < STEPS; ++s) total[row][s] += sum[row][s][k] * slope;
                    }
            }
            for (int row = 0; row < ROWS; ++row)
                for (int s = 0; s < STEPS; ++s) {
                    const index_t i = r + s - row;
                    if (y + row < n.height && i >= 0 && i < n.taps)
                        o.put(b, i, y + row, x, total[row][s]);
                }
        }
    });
}

// Of the frame, here row y and column x of the padded frame: sum over the pixels (y - i, x - j)
// whose window reaches it of gradient * vertical[i] * horizontal[j]
extern "C" __global__ void __launch_bounds__(THREADS, MIN_BLOCKS) frame_gradient(TENSOR(gradient), TENSOR(vertical), TENSOR(horizontal),
                                          RESULT(output), SIZES) {
    const sizes_t n = GATHERED_SIZES;
    const tensor_t g = GATHERED(gradient), v = GATHERED(vertical), h = GATHERED(horizontal);
    const result_t o = GATHERED(output);
    const index_t rows = n.height + n.taps - 1, columns = n.width + n.taps - 1;
    for_each_group(n.batch, rows, columns, [&](index_t b, index_t y, index_t x) {
        for (index_t c = 0; c < n.channels; c += CHANNELS) {
            SUM total[ROWS][CHANNELS] = {};
            for (index_t r = y < n.taps ? 0 : y - n.taps + 1; r < y + ROWS && r < n.height; ++r) {
                for (index_t j = x < n.width ? 0 : x - n.width + 1; j < n.taps && j <= x; ++j) {
                    const SUM weight = widen(*h.at(b, j, r, x - j));
                    SUM slope[CHANNELS];
                    for (int k = 0; k < CHANNELS; ++k)
                        slope[k] =
                            c + k < n.channels ? widen(*g.at(b, c + k, r, x - j)) * weight : SUM(0);
                    for (int row = 0; row < ROWS; ++row) {
                        const index_t i = y + row - r;
                        if (i < 0 || i >= n.taps) continue;
                        const SUM down = widen(*v.at(b, i, r, x - j));
                        for (int k = 0; k < CHANNELS; ++k) total[row][k] += slope[k] * down;
                    }
                }
            }
            for (int row = 0; row < ROWS; ++row)
                for (int k = 0; k < CHANNELS; ++k)
                    if (y + row < rows && c + k < n.channels)
                        o.put(b, c + k, y + row, x, total[row][k]);
        }
    });
}
