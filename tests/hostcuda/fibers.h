// The threads of a block as fibers: they take turns, and wait for each other at barriers and warp operations.
#pragma once

#include <string>

#include "runtime.h"

namespace hostcuda {

// Run all blocks of a grid; returns an empty text, or what went wrong. `order` says in which order threads and blocks
// take turns: 0 ascending, 1 descending, other numbers seed a shuffle.
std::string run_grid(const Module& module, const Kernel& kernel, const unsigned char* arguments, Index grid, Index block,
                     size_t shared_bytes, unsigned order, void* thread_local_data, size_t thread_local_bytes);

}  // namespace hostcuda
