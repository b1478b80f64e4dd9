// What the stand-in driver and a kernel module compiled for it know of each other.
//
// A module is a shared library. The driver hands it a Runtime (how to wait, to exchange values within a warp, to report
// an error) and takes its list of kernels. A block's threads are fibers of one operating system thread; `current` is the
// one that runs.
#pragma once

#include <cstddef>
#include <cstdint>

namespace hostcuda {

struct Index {
    unsigned x, y, z;
};

// One thread of the block that runs.
struct Thread {
    Index thread;
    unsigned linear;  // x fastest
    unsigned lane;    // place within its warp of 32
};

// The same for all threads of a block.
struct Block {
    Index block;
    Index block_size;
    Index grid_size;
    unsigned char* dynamic_shared;
    unsigned long serial;  // of all blocks that have run
};

constexpr int WARP = 32;
constexpr int EXCHANGED = 64;  // bytes each lane can hand to the others at once

struct Runtime {
    // Wait until all threads of the block are here; returns how many of them came with `predicate`.
    int (*barrier)(int predicate);
    // Wait until all lanes of `mask` are here with a value; returns their values, EXCHANGED bytes apart.
    const unsigned char* (*exchange)(unsigned mask, const void* value, size_t bytes);
    // Copies that happen at the wait: of `bytes` to `target`, the first `filled` from `source`, the others 0.
    void (*copy_async)(void* target, const void* source, unsigned bytes, unsigned filled);
    void (*commit_copies)();
    void (*wait_copies)(int pending);
    // End the launch with an error.
    void (*fail)(const char* message);
};

struct Kernel {
    const char* name;
    void (*run)(const unsigned char* arguments);  // one thread; arguments packed with their natural alignment
    size_t argument_bytes;
    int most_threads;  // of a block
};

struct Module {
    int kernel_count;
    const Kernel* kernels;
    const Runtime** runtime;
    Thread** current;
    Block* block;
    // The address of a thread-local variable: the module's block of them exists once one was asked for.
    void* (*thread_local_variable)();
};

}  // namespace hostcuda

// The one symbol of a module.
extern "C" const hostcuda::Module* hostcuda_module();
