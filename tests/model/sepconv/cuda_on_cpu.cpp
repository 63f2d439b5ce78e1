#include "cuda_on_cpu.h"
#include SOURCE

LAUNCHER(forward)
LAUNCHER(frame_gradient)
LAUNCHER(vertical_gradient)
LAUNCHER(horizontal_gradient)
