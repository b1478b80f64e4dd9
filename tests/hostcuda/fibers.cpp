#include "fibers.h"

#include <csetjmp>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include "memory.h"

namespace hostcuda {
namespace {

constexpr size_t STACK_BYTES = 64 << 10;
constexpr unsigned MOST_THREADS = 1024;
constexpr unsigned char POISON = 0xff;  // as float: not a number

enum class State { READY, AT_BARRIER, IN_WARP, DONE };

struct Copy {
    void* target;
    const void* source;
    unsigned bytes, filled;
};

struct Fiber {
    Thread thread;  // first: a module's `current` points here
    State state;
    jmp_buf place;
    bool is_made = false;
    ucontext_t context;
    unsigned mask;        // lanes it waits for
    unsigned exchanges;   // warp operations it has done
    size_t bytes;         // of the value it exchanges
    int predicate;
    std::vector<std::vector<Copy>> copies;  // asynchronous ones not yet waited for, by group; the last is open
};

struct Warp {
    // Two sets of values in turn: a lane may be one operation ahead of another that has not read its values yet.
    alignas(16) unsigned char values[2][WARP][EXCHANGED];
};

Fiber fibers[MOST_THREADS];
Warp warps[MOST_THREADS / WARP];
unsigned char* stacks = nullptr;

// The launch that runs.
const Module* module_;
const Kernel* kernel_;
const unsigned char* arguments_;
Fiber* running;
int barrier_count;
jmp_buf scheduler;
sigjmp_buf failed;
unsigned long blocks_run = 0;
char failure[1024];

std::string place_of(const Fiber& fiber) {
    char text[200];
    const Index &b = module_->block->block, &t = fiber.thread.thread;
    snprintf(text, sizeof text, "kernel %s, block (%u, %u, %u), thread (%u, %u, %u)", kernel_->name, b.x, b.y, b.z, t.x,
             t.y, t.z);
    return text;
}

[[noreturn]] void fail(const char* message) {
    snprintf(failure, sizeof failure, "%s: %s", place_of(*running).c_str(), message);
    siglongjmp(failed, 1);
}

// A signal's handler runs on a stack of its own and leaves by siglongjmp: the fiber is given up.
void on_fault(int signal, siginfo_t* info, void*) {
    std::string message;
    if (signal == SIGSEGV || signal == SIGBUS)
        message = describe_address(info->si_addr);
    else if (signal == SIGILL)
        message = "an index outside a shared or local array, or a vector that is not aligned";
    else
        message = "division by zero";
    fail(message.c_str());
}

void give_way() {
    if (_setjmp(running->place) == 0) _longjmp(scheduler, 1);
}

void fiber_main() {
    for (;;) {
        kernel_->run(arguments_);
        running->state = State::DONE;
        give_way();
    }
}

void resume(Fiber& fiber) {
    running = &fiber;
    *module_->current = &fiber.thread;
    if (_setjmp(scheduler) != 0) return;
    if (fiber.is_made) _longjmp(fiber.place, 1);
    fiber.is_made = true;
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = stacks + (&fiber - fibers) * STACK_BYTES + getpagesize();
    fiber.context.uc_stack.ss_size = STACK_BYTES - getpagesize();
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, fiber_main, 0);
    setcontext(&fiber.context);
}

int barrier(int predicate) {
    running->state = State::AT_BARRIER;
    running->predicate = predicate;
    give_way();
    return barrier_count;
}

const unsigned char* exchange(unsigned mask, const void* value, size_t bytes) {
    Fiber& me = *running;
    if (!(mask >> me.thread.lane & 1)) fail("a warp operation whose mask leaves out the calling lane");
    auto& values = warps[me.thread.linear / WARP].values[me.exchanges++ & 1];
    memcpy(values[me.thread.lane], value, bytes);
    me.state = State::IN_WARP;
    me.mask = mask;
    me.bytes = bytes;
    give_way();
    return values[0];
}

void copy_async(void* target, const void* source, unsigned bytes, unsigned filled) {
    if ((uintptr_t)target % bytes || (uintptr_t)source % bytes) fail("an asynchronous copy that is not aligned");
    memset(target, POISON, bytes);
    running->copies.back().push_back({target, source, bytes, filled});
}

void commit_copies() { running->copies.emplace_back(); }

void wait_copies(int pending) {
    auto& groups = running->copies;
    size_t done = groups.size() - 1 > (size_t)pending ? groups.size() - 1 - pending : 0;
    for (size_t group = 0; group < done; group++)
        for (const Copy& copy : groups[group]) {
            memcpy(copy.target, copy.source, copy.filled);
            memset((char*)copy.target + copy.filled, 0, copy.bytes - copy.filled);
        }
    groups.erase(groups.begin(), groups.begin() + done);
}

const Runtime RUNTIME = {barrier, exchange, copy_async, commit_copies, wait_copies, [](const char* m) { fail(m); }};

void make_stacks() {
    if (stacks) return;
    stacks = (unsigned char*)mmap(nullptr, STACK_BYTES * MOST_THREADS, PROT_READ | PROT_WRITE,
                                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    for (unsigned i = 0; i < MOST_THREADS; i++) mprotect(stacks + i * STACK_BYTES, getpagesize(), PROT_NONE);
}

std::vector<unsigned> turns(unsigned count, unsigned order, std::mt19937& random) {
    std::vector<unsigned> result(count);
    for (unsigned i = 0; i < count; i++) result[i] = order == 1 ? count - 1 - i : i;
    if (order > 1)
        for (unsigned i = count; i > 1; i--) std::swap(result[i - 1], result[random() % i]);
    return result;
}

// Let lanes of a warp go on that are all where they wait for each other.
bool release_warp(unsigned first, unsigned threads) {
    bool released = false;
    for (unsigned i = first; i < first + WARP && i < threads; i++) {
        if (fibers[i].state != State::IN_WARP) continue;
        unsigned mask = fibers[i].mask;
        bool complete = true;
        for (unsigned lane = 0; lane < WARP; lane++) {
            if (!(mask >> lane & 1)) continue;
            unsigned other = first + lane;
            complete = complete && other < threads && fibers[other].state == State::IN_WARP &&
                       fibers[other].mask == mask && fibers[other].exchanges == fibers[i].exchanges;
        }
        if (!complete) continue;
        for (unsigned lane = 0; lane < WARP; lane++)
            if (mask >> lane & 1) {
                running = &fibers[first + lane];
                if (running->bytes != fibers[i].bytes) fail("the lanes of a warp are at different operations");
                running->state = State::READY;
            }
        released = true;
    }
    return released;
}

// All threads up to the next barrier, or their end. A warp goes as far as it can before the next begins; where the order is
// shuffled, now this one, now that one goes on by one operation.
void run_to_barrier(unsigned threads, unsigned order, std::mt19937& random) {
    std::vector<unsigned> lanes = turns(WARP, order, random), warps_left = turns((threads + WARP - 1) / WARP, order, random);
    while (!warps_left.empty()) {
        unsigned place = order > 1 ? random() % warps_left.size() : 0, first = warps_left[place] * WARP;
        for (unsigned lane : lanes)
            if (first + lane < threads && fibers[first + lane].state == State::READY) resume(fibers[first + lane]);
        if (!release_warp(first, threads)) warps_left.erase(warps_left.begin() + place);
    }
}

// Let the block go on from a barrier; false if all threads are done. Anything else is an error.
bool release_barrier(unsigned threads) {
    unsigned waiting = 0, done = 0;
    barrier_count = 0;
    for (unsigned i = 0; i < threads; i++) {
        waiting += fibers[i].state == State::AT_BARRIER;
        done += fibers[i].state == State::DONE;
        if (fibers[i].state == State::AT_BARRIER) barrier_count += fibers[i].predicate != 0;
    }
    if (done == threads) return false;
    if (waiting == threads) {
        for (unsigned i = 0; i < threads; i++) fibers[i].state = State::READY;
        return true;
    }
    for (unsigned i = 0; i < threads; i++)
        if (fibers[i].state != State::DONE) running = &fibers[i];
    char message[200];
    snprintf(message, sizeof message, "waits forever: of %u threads %u are at a barrier, %u have ended, %u wait in a warp",
             threads, waiting, done, threads - waiting - done);
    fail(message);
}

void run_block(unsigned threads, unsigned order, std::mt19937& random) {
    for (unsigned i = 0; i < threads; i++) {
        Fiber& fiber = fibers[i];
        const Index& size = module_->block->block_size;
        fiber.thread = {{i % size.x, i / size.x % size.y, i / size.x / size.y}, i, i % WARP};
        fiber.state = State::READY;
        fiber.exchanges = 0;
        fiber.copies.assign(1, {});
    }
    do run_to_barrier(threads, order, random);
    while (release_barrier(threads));
}

// Take over the signals of a fault for the time of a launch.
class Faults {
  public:
    Faults() {
        static unsigned char* stack = new unsigned char[64 << 10];
        stack_t ours = {stack, 0, 64 << 10};
        sigaltstack(&ours, &stack_before_);
        struct sigaction action = {};
        action.sa_sigaction = on_fault;
        action.sa_flags = SA_SIGINFO | SA_ONSTACK;
        for (int i = 0; i < COUNT; i++) sigaction(SIGNALS[i], &action, &before_[i]);
    }
    ~Faults() {
        for (int i = 0; i < COUNT; i++) sigaction(SIGNALS[i], &before_[i], nullptr);
        sigaltstack(&stack_before_, nullptr);
    }

  private:
    static constexpr int COUNT = 4;
    static constexpr int SIGNALS[COUNT] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE};
    struct sigaction before_[COUNT];
    stack_t stack_before_;
};

}  // namespace

std::string run_grid(const Module& module, const Kernel& kernel, const unsigned char* arguments, Index grid, Index block,
                     size_t shared_bytes, unsigned order, void* thread_local_data, size_t thread_local_bytes) {
    make_stacks();
    module_ = &module;
    kernel_ = &kernel;
    arguments_ = arguments;
    *module.runtime = &RUNTIME;
    // Dynamic shared memory ends at a page that cannot be touched.
    std::unique_ptr<GuardedBlock> shared(shared_bytes ? new GuardedBlock(shared_bytes) : nullptr);
    *module.block = {{0, 0, 0}, block, grid, shared ? shared->data() : nullptr};
    unsigned threads = block.x * block.y * block.z;
    std::mt19937 random(order);
    Faults faults;
    if (sigsetjmp(failed, 1) != 0) {
        for (Fiber& fiber : fibers) fiber.is_made = false;  // some were given up in the middle
        return failure;
    }
    for (unsigned i : turns(grid.x * grid.y * grid.z, order, random)) {
        module.block->block = {i % grid.x, i / grid.x % grid.y, i / grid.x / grid.y};
        module.block->serial = ++blocks_run;
        if (shared) memset(shared->data(), POISON, shared_bytes);
        memset(thread_local_data, POISON, thread_local_bytes);
        run_block(threads, order, random);
    }
    return "";
}

}  // namespace hostcuda
