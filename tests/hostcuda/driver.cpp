// A stand-in for NVIDIA's driver library, so that a program written for it runs on a machine without a GPU.
//
// Device memory is host memory, a launch runs the kernel's threads as fibers. Streams do their work at once, or as late as
// they may with HOSTCUDA_BUSY: when somebody waits for it, so that what was changed or read too early shows. A stream that
// is captured remembers its work, and a graph does it when launched; what a real driver refuses meanwhile (waiting, the
// legacy stream, events that were recorded in it, freeing; allocating and loading unless the thread asked to be trusted) is
// refused and makes the capture invalid. Nothing works in a thread without a context. Functions that are not here are
// added by the build, each returning CUDA_ERROR_NOT_SUPPORTED.
//
// hostcuda_waits() and hostcuda_launches() count what the host has waited for, and launched, so far.
//
// Environment: HOSTCUDA_ORDER in which order threads take turns (see fibers.h); HOSTCUDA_ARCH compute capability as 80;
// HOSTCUDA_DEVICES how many; HOSTCUDA_MEMORY bytes of each; HOSTCUDA_MULTIPROCESSORS of each (4; of few, a block has more to
// do); HOSTCUDA_FAIL a function that shall fail, and how, as cuInit:100; HOSTCUDA_BUSY=1: nothing is done until somebody
// waits for it; HOSTCUDA_PAGEABLE=1: the device reads all of the host's memory by itself, as on machines where copies of
// memory that is not pinned are not staged.
#include <cuda.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <dlfcn.h>
#include <link.h>
#include <time.h>
#include <unistd.h>

#include "fibers.h"
#include "memory.h"

using hostcuda::Index;

struct CUctx_st {
    CUdevice device;
};
struct CUmod_st {
    void* library;
    const hostcuda::Module* module;
    size_t shared_bytes;  // static: all of the module's
    std::map<std::string, CUfunc_st> functions;
};
struct CUfunc_st {
    CUmodule module;
    const hostcuda::Kernel* kernel;
    int most_dynamic_shared;
};
typedef std::vector<std::function<CUresult()>> Work;
struct CUstream_st {
    bool captures = false, is_invalid = false;
    CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_GLOBAL;
    std::thread::id thread;
    Work captured;
    std::deque<std::function<CUresult()>> waiting;
    long done = 0;  // pieces of work
    long submitted() const { return done + (long)waiting.size(); }
};
struct CUevent_st {
    double milliseconds = 0;
    CUstream stream = nullptr;
    long place = 0;  // pieces of work of the stream before it
    bool is_captured = false;
};
struct CUgraph_st {
    Work work;
};
struct CUgraphExec_st {
    Work work;
};

namespace {

constexpr int WITHOUT_ASKING = 48 << 10;  // bytes of shared memory of a block

std::recursive_mutex mutex;
std::set<CUstream> streams, captured_streams;
thread_local CUstreamCaptureMode thread_mode = CU_STREAM_CAPTURE_MODE_GLOBAL;
long waits = 0, launches = 0;
std::map<uintptr_t, size_t> pinned;          // addresses and bytes
std::vector<std::function<void()>> to_free;  // when nothing is waiting any more
std::map<int, CUctx_st> contexts;
thread_local std::vector<CUcontext> stack;
// As on a real GPU, nothing works any more after a kernel went wrong; here until the error was reported once.
CUresult pending_error = CUDA_SUCCESS;

long setting(const char* name, long otherwise) {
    const char* text = getenv(name);
    return text && *text ? atol(text) : otherwise;
}

long compute_capability() { return setting("HOSTCUDA_ARCH", 80); }

// Bytes of shared memory of a block that asks for it; of sm_80 and newer what the least of them has.
int most_shared() { return (compute_capability() < 80 ? 64 : 99) << 10; }

size_t total_memory() { return (size_t)setting("HOSTCUDA_MEMORY", 4l << 30); }

// The function's name may end in a version, _v2.
CUresult wanted_failure(const char* function) {
    const char* wish = getenv("HOSTCUDA_FAIL");
    const char* colon = wish ? strchr(wish, ':') : nullptr;
    if (!colon) return CUDA_SUCCESS;
    size_t length = colon - wish;
    bool is_it = !strncmp(wish, function, length) && (!function[length] || !strncmp(function + length, "_v", 2));
    return is_it ? (CUresult)atoi(colon + 1) : CUDA_SUCCESS;
}

// Locks, and leaves the function if it shall fail.
#define BEGIN                                                     \
    std::lock_guard<std::recursive_mutex> lock(mutex);            \
    if (CUresult failure = wanted_failure(__func__)) return failure;

// The same for what is done in a context.
#define BEGIN_IN_CONTEXT \
    BEGIN                \
    if (stack.empty()) return report(CUDA_ERROR_INVALID_CONTEXT, std::string(__func__) + " in a thread without a context");

CUresult report(CUresult error, const std::string& message) {
    fprintf(stderr, "hostcuda: %s\n", message.c_str());
    fflush(stderr);
    return error;
}

CUresult taken_error() {
    CUresult error = pending_error;
    pending_error = CUDA_SUCCESS;
    return error;
}

double now() {
    timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1e3 + time.tv_nsec * 1e-6;
}

CUresult checked(CUdeviceptr address, size_t bytes) {
    std::string problem = hostcuda::check((void*)address, bytes);
    return problem.empty() ? CUDA_SUCCESS : report(CUDA_ERROR_ILLEGAL_ADDRESS, problem);
}

CUresult invalidate(CUresult error, const char* what) {
    for (CUstream stream : captured_streams) stream->is_invalid = true;
    return report(error, std::string(what) + " while a stream is captured");
}

// What touches more than its stream: allowed in a thread that captures, or beside a global capture, only if the thread
// has asked for it.
CUresult unsafe(const char* what) {
    if (thread_mode == CU_STREAM_CAPTURE_MODE_RELAXED) return CUDA_SUCCESS;
    for (CUstream stream : captured_streams) {
        bool is_own = stream->thread == std::this_thread::get_id();
        if (stream->mode == CU_STREAM_CAPTURE_MODE_GLOBAL || (is_own && stream->mode == CU_STREAM_CAPTURE_MODE_THREAD_LOCAL))
            return invalidate(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, what);
    }
    return CUDA_SUCCESS;
}

bool all_is_done() {
    for (CUstream stream : streams)
        if (!stream->waiting.empty()) return false;
    return true;
}

// Let a stream do its work up to a place.
void let_work(CUstream stream, long place) {
    while (stream->done < place) {
        auto work = stream->waiting.front();
        stream->waiting.pop_front();
        stream->done++;
        if (CUresult error = work()) pending_error = error;
    }
    if (!all_is_done()) return;
    for (auto& free : to_free) free();
    to_free.clear();
}

void let_all_work() {
    for (CUstream stream : streams) let_work(stream, stream->submitted());
}

CUresult waited(CUstream stream) {
    waits++;
    if (stream ? stream->captures : !captured_streams.empty())
        return invalidate(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "waiting");
    stream ? let_work(stream, stream->submitted()) : let_all_work();
    return taken_error();
}

// Do something when its turn comes, or remember it where the stream is being captured.
CUresult submit(CUstream stream, std::function<CUresult()> work) {
    if (!stream && !captured_streams.empty()) return invalidate(CUDA_ERROR_STREAM_CAPTURE_IMPLICIT, "the legacy stream");
    if (stream && stream->captures) {
        if (stream->is_invalid) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
        stream->captured.push_back(work);
        return CUDA_SUCCESS;
    }
    if (!stream) {
        let_all_work();
        return work();
    }
    if (setting("HOSTCUDA_BUSY", 0)) {
        stream->waiting.push_back(work);
        return CUDA_SUCCESS;
    }
    let_work(stream, stream->submitted());
    stream->done++;
    return work();
}

// Free something when nobody can be using it any more.
CUresult release_later(std::function<void()> free) {
    if (!captured_streams.empty()) return invalidate(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "freeing");
    if (!setting("HOSTCUDA_BUSY", 0)) let_all_work();
    if (all_is_done())
        free();
    else
        to_free.push_back(free);
    return CUDA_SUCCESS;
}

bool is_pinned(const void* address) {
    auto after = pinned.upper_bound((uintptr_t)address);
    if (after == pinned.begin()) return false;
    auto block = std::prev(after);
    return (uintptr_t)address < block->first + block->second;
}

CUresult run_all(const Work& work) {
    for (auto& item : work)
        if (CUresult error = item()) return error;
    return CUDA_SUCCESS;
}

struct ThreadLocal {
    const void* symbol;
    void* data;
    size_t bytes;
};

// The thread-local block of a module holds its __shared__ variables.
int find_thread_local(dl_phdr_info* info, size_t, void* wanted) {
    auto* found = (ThreadLocal*)wanted;
    bool is_it = false;
    size_t bytes = 0;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        auto& header = info->dlpi_phdr[i];
        auto start = info->dlpi_addr + header.p_vaddr;
        if (header.p_type == PT_LOAD && (uintptr_t)found->symbol >= start &&
            (uintptr_t)found->symbol < start + header.p_memsz)
            is_it = true;
        if (header.p_type == PT_TLS) bytes = header.p_memsz;
    }
    if (!is_it) return 0;
    found->data = info->dlpi_tls_data;
    found->bytes = bytes;
    return 1;
}

ThreadLocal thread_local_of(const hostcuda::Module* module) {
    ThreadLocal found = {module, nullptr, 0};
    *(volatile char*)module->thread_local_variable() = 0;
    dl_iterate_phdr(find_thread_local, &found);
    return found;
}

CUresult launch(CUfunction function, Index grid, Index block, size_t shared, const std::vector<unsigned char>& arguments) {
    CUmodule module = function->module;
    ThreadLocal variables = thread_local_of(module->module);
    if (variables.bytes && !variables.data)
        return report(CUDA_ERROR_UNKNOWN, "the shared variables of a module are not reachable in this thread");
    std::string problem = hostcuda::run_grid(*module->module, *function->kernel, arguments.data(), grid, block, shared,
                                             (unsigned)setting("HOSTCUDA_ORDER", 0), variables.data, variables.bytes);
    if (!problem.empty()) pending_error = report(CUDA_ERROR_ILLEGAL_ADDRESS, problem);
    return CUDA_SUCCESS;
}

}  // namespace

extern "C" {

// --- the device

CUresult cuInit(unsigned) {
    BEGIN return CUDA_SUCCESS;
}
CUresult cuDriverGetVersion(int* version) {
    BEGIN* version = (int)setting("HOSTCUDA_VERSION", CUDA_VERSION);
    return CUDA_SUCCESS;
}
CUresult cuDeviceGetCount(int* count) {
    BEGIN* count = (int)setting("HOSTCUDA_DEVICES", 2);
    return CUDA_SUCCESS;
}
CUresult cuDeviceGet(CUdevice* device, int number) {
    BEGIN* device = number;
    return number < setting("HOSTCUDA_DEVICES", 2) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}
CUresult cuDeviceGetName(char* name, int length, CUdevice device) {
    BEGIN snprintf(name, length, "stand-in GPU %d", device);
    return CUDA_SUCCESS;
}
CUresult cuDeviceGetPCIBusId(char* name, int length, CUdevice device) {
    BEGIN snprintf(name, length, "0000:%02x:00.0", device);
    return CUDA_SUCCESS;
}
CUresult cuDeviceTotalMem(size_t* bytes, CUdevice) {
    BEGIN* bytes = total_memory();
    return CUDA_SUCCESS;
}
CUresult cuDeviceComputeCapability(int* major, int* minor, CUdevice) {
    BEGIN long arch = compute_capability();
    *major = (int)arch / 10;
    *minor = (int)arch % 10;
    return CUDA_SUCCESS;
}
CUresult cuDeviceGetAttribute(int* value, CUdevice_attribute attribute, CUdevice) {
    BEGIN static const std::map<int, int> known = {
        {CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK, 1024},
        {CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X, 1024},
        {CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X, 0x7fffffff},
        {CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y, 65535},
        {CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z, 65535},
        {CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK, WITHOUT_ASKING},
        {CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, (int)setting("HOSTCUDA_MULTIPROCESSORS", 4)},
        {CU_DEVICE_ATTRIBUTE_WARP_SIZE, hostcuda::WARP},
        {CU_DEVICE_ATTRIBUTE_CLOCK_RATE, 1000000},
        {CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE, 1000000},
        {CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH, 64},
        {CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE, 1 << 20},
        {CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK, 65536},
        {CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR, 2048},
        {CU_DEVICE_ATTRIBUTE_RESERVED_SHARED_MEMORY_PER_BLOCK, 1024},
    };
    long arch = compute_capability();
    if (attribute == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)
        *value = (int)arch / 10;
    else if (attribute == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)
        *value = (int)arch % 10;
    else if (attribute == CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)
        *value = most_shared();
    else if (attribute == CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR)
        *value = most_shared() + (arch < 80 ? 0 : 1024);
    else if (attribute == CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS)
        *value = (int)setting("HOSTCUDA_PAGEABLE", 0);
    else {
        auto found = known.find(attribute);
        *value = found == known.end() ? 0 : found->second;
    }
    return CUDA_SUCCESS;
}
CUresult cuGetErrorString(CUresult error, const char** text) {
    static const std::map<int, const char*> known = {
        {CUDA_ERROR_INVALID_VALUE, "invalid argument"},
        {CUDA_ERROR_OUT_OF_MEMORY, "out of memory"},
        {CUDA_ERROR_NO_DEVICE, "no CUDA-capable device is detected"},
        {CUDA_ERROR_INVALID_DEVICE, "invalid device ordinal"},
        {CUDA_ERROR_INVALID_IMAGE, "device kernel image is invalid"},
        {CUDA_ERROR_INVALID_CONTEXT, "invalid device context"},
        {CUDA_ERROR_NO_BINARY_FOR_GPU, "no kernel image is available for execution on the device"},
        {CUDA_ERROR_UNSUPPORTED_PTX_VERSION, "the provided PTX was compiled with an unsupported toolchain"},
        {CUDA_ERROR_NOT_FOUND, "named symbol not found"},
        {CUDA_ERROR_ILLEGAL_ADDRESS, "an illegal memory access was encountered"},
        {CUDA_ERROR_SYSTEM_DRIVER_MISMATCH, "system has unsupported display driver / cuda driver combination"},
        {CUDA_ERROR_NOT_SUPPORTED, "operation not supported"},
        {CUDA_ERROR_NOT_READY, "device not ready"},
        {CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "operation not permitted when stream is capturing"},
        {CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, "operation failed due to a previous error during capture"},
        {CUDA_ERROR_STREAM_CAPTURE_IMPLICIT, "operation would make the legacy stream depend on a capturing blocking stream"},
        {CUDA_ERROR_STREAM_CAPTURE_ISOLATION, "dependency created on uncaptured work in another stream during capture"},
        {CUDA_ERROR_CAPTURED_EVENT, "operation not permitted on an event last recorded in a capturing stream"},
    };
    auto found = known.find(error);
    *text = found == known.end() ? "unknown error" : found->second;
    return CUDA_SUCCESS;
}

// --- contexts

CUresult cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice device) {
    BEGIN contexts[device].device = device;
    *context = &contexts[device];
    return CUDA_SUCCESS;
}
CUresult cuDevicePrimaryCtxRelease(CUdevice) {
    BEGIN return CUDA_SUCCESS;
}
CUresult cuCtxCreate(CUcontext* context, CUctxCreateParams*, unsigned, CUdevice device) {
    BEGIN contexts[device].device = device;
    *context = &contexts[device];
    stack.push_back(*context);
    return CUDA_SUCCESS;
}
CUresult cuCtxDetach(CUcontext) {
    BEGIN return CUDA_SUCCESS;
}
CUresult cuCtxPushCurrent(CUcontext context) {
    BEGIN stack.push_back(context);
    return CUDA_SUCCESS;
}
CUresult cuCtxPopCurrent(CUcontext* context) {
    BEGIN if (stack.empty()) return CUDA_ERROR_INVALID_CONTEXT;
    if (context) *context = stack.back();
    stack.pop_back();
    return CUDA_SUCCESS;
}
CUresult cuCtxGetCurrent(CUcontext* context) {
    BEGIN* context = stack.empty() ? nullptr : stack.back();
    return CUDA_SUCCESS;
}
CUresult cuCtxGetDevice(CUdevice* device) {
    BEGIN if (stack.empty()) return CUDA_ERROR_INVALID_CONTEXT;
    *device = stack.back()->device;
    return CUDA_SUCCESS;
}
CUresult cuCtxGetApiVersion(CUcontext, unsigned* version) {
    BEGIN* version = 3020;
    return CUDA_SUCCESS;
}
CUresult cuCtxSynchronize() {
    BEGIN return waited(nullptr);
}

// --- memory

CUresult cuMemAlloc(CUdeviceptr* address, size_t bytes) {
    BEGIN_IN_CONTEXT if (bytes == 0) return CUDA_ERROR_INVALID_VALUE;
    if (CUresult error = unsafe("allocating")) return error;
    *address = (CUdeviceptr)hostcuda::allocate(bytes, total_memory());
    return *address ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}
CUresult cuMemFree(CUdeviceptr address) {
    BEGIN_IN_CONTEXT return release_later([=] {
        std::string problem = hostcuda::release((void*)address);
        if (!problem.empty()) pending_error = report(CUDA_ERROR_ILLEGAL_ADDRESS, problem);
    });
}
CUresult cuMemGetInfo(size_t* free_bytes, size_t* total) {
    BEGIN* total = total_memory();
    *free_bytes = *total - std::min(*total, hostcuda::used_memory());
    return CUDA_SUCCESS;
}
CUresult cuMemGetAddressRange(CUdeviceptr* start, size_t* bytes, CUdeviceptr address) {
    BEGIN hostcuda::GuardedBlock* block = hostcuda::find((void*)address);
    if (!block) return CUDA_ERROR_NOT_FOUND;
    if (start) *start = (CUdeviceptr)block->data();
    if (bytes) *bytes = block->bytes();
    return CUDA_SUCCESS;
}
CUresult cuMemHostAlloc(void** address, size_t bytes, unsigned) {
    BEGIN_IN_CONTEXT if (CUresult error = unsafe("allocating on the host")) return error;
    size_t all = (bytes + 4095) / 4096 * 4096;
    *address = aligned_alloc(4096, all);
    if (!*address) return CUDA_ERROR_OUT_OF_MEMORY;
    pinned[(uintptr_t)*address] = all;
    return CUDA_SUCCESS;
}
CUresult cuMemFreeHost(void* address) {
    BEGIN_IN_CONTEXT return release_later([=] {
        pinned.erase((uintptr_t)address);
        free(address);
    });
}

// What is not pinned is staged: it may change at once.
CUresult cuMemcpyHtoDAsync(CUdeviceptr target, const void* source, size_t bytes, CUstream stream) {
    BEGIN_IN_CONTEXT if (pending_error) return taken_error();
    std::shared_ptr<unsigned char[]> staged;
    bool is_recorded = stream && stream->captures;
    if (!is_recorded && !is_pinned(source) && !setting("HOSTCUDA_PAGEABLE", 0)) {
        staged.reset(new unsigned char[bytes]);
        memcpy(staged.get(), source, bytes);
    }
    return submit(stream, [=] {
        if (CUresult error = checked(target, bytes)) return error;
        memcpy((void*)target, staged ? staged.get() : source, bytes);
        return CUDA_SUCCESS;
    });
}
CUresult cuMemcpyDtoHAsync(void* target, CUdeviceptr source, size_t bytes, CUstream stream) {
    BEGIN_IN_CONTEXT if (pending_error) return taken_error();
    return submit(stream, [=] {
        if (CUresult error = checked(source, bytes)) return error;
        memcpy(target, (void*)source, bytes);
        return CUDA_SUCCESS;
    });
}
CUresult cuMemcpyDtoDAsync(CUdeviceptr target, CUdeviceptr source, size_t bytes, CUstream stream) {
    BEGIN_IN_CONTEXT if (pending_error) return taken_error();
    return submit(stream, [=] {
        if (CUresult error = checked(source, bytes)) return error;
        if (CUresult error = checked(target, bytes)) return error;
        memmove((void*)target, (void*)source, bytes);
        return CUDA_SUCCESS;
    });
}
CUresult cuMemcpyHtoD(CUdeviceptr target, const void* source, size_t bytes) {
    waits++;
    return cuMemcpyHtoDAsync(target, source, bytes, nullptr);
}
CUresult cuMemcpyDtoH(void* target, CUdeviceptr source, size_t bytes) {
    waits++;
    return cuMemcpyDtoHAsync(target, source, bytes, nullptr);
}
CUresult cuMemcpyDtoD(CUdeviceptr target, CUdeviceptr source, size_t bytes) {
    return cuMemcpyDtoDAsync(target, source, bytes, nullptr);
}
CUresult cuMemsetD8Async(CUdeviceptr target, unsigned char value, size_t count, CUstream stream) {
    BEGIN_IN_CONTEXT return submit(stream, [=] {
        if (CUresult error = checked(target, count)) return error;
        memset((void*)target, value, count);
        return CUDA_SUCCESS;
    });
}
CUresult cuMemsetD8(CUdeviceptr target, unsigned char value, size_t count) {
    return cuMemsetD8Async(target, value, count, nullptr);
}
CUresult cuMemsetD16Async(CUdeviceptr target, unsigned short value, size_t count, CUstream stream) {
    BEGIN_IN_CONTEXT if (target % 2) return CUDA_ERROR_INVALID_VALUE;
    return submit(stream, [=] {
        if (CUresult error = checked(target, 2 * count)) return error;
        for (size_t i = 0; i < count; i++) ((unsigned short*)target)[i] = value;
        return CUDA_SUCCESS;
    });
}
CUresult cuMemsetD32Async(CUdeviceptr target, unsigned value, size_t count, CUstream stream) {
    BEGIN_IN_CONTEXT if (target % 4) return CUDA_ERROR_INVALID_VALUE;
    return submit(stream, [=] {
        if (CUresult error = checked(target, 4 * count)) return error;
        for (size_t i = 0; i < count; i++) ((unsigned*)target)[i] = value;
        return CUDA_SUCCESS;
    });
}
CUresult cuMemsetD32(CUdeviceptr target, unsigned value, size_t count) {
    return cuMemsetD32Async(target, value, count, nullptr);
}

// --- modules and launches

// "HOSTCUDA", the length, a shared library.
CUresult cuModuleLoadDataEx(CUmodule* module, const void* image, unsigned, CUjit_option*, void**) {
    BEGIN_IN_CONTEXT if (CUresult error = unsafe("loading a module")) return error;
    uint64_t length;
    if (memcmp(image, "HOSTCUDA", 8)) return CUDA_ERROR_INVALID_IMAGE;
    memcpy(&length, (const char*)image + 8, 8);
    char path[] = "/tmp/hostcuda-XXXXXX";  // a name of its own: dlopen knows libraries by their names
    int file = mkstemp(path);
    bool is_written = write(file, (const char*)image + 16, length) == (ssize_t)length;
    close(file);
    void* library = is_written ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : nullptr;
    unlink(path);
    if (!library) return report(CUDA_ERROR_INVALID_IMAGE, dlerror());
    auto entry = (const hostcuda::Module* (*)())dlsym(library, "hostcuda_module");
    if (!entry) return CUDA_ERROR_INVALID_IMAGE;
    *module = new CUmod_st{library, entry(), 0, {}};
    (*module)->shared_bytes = thread_local_of((*module)->module).bytes;
    return CUDA_SUCCESS;
}
CUresult cuModuleLoadData(CUmodule* module, const void* image) {
    return cuModuleLoadDataEx(module, image, 0, nullptr, nullptr);
}
CUresult cuModuleUnload(CUmodule) {
    BEGIN return CUDA_SUCCESS;  // functions may be in captured work
}
CUresult cuModuleGetFunction(CUfunction* function, CUmodule module, const char* name) {
    BEGIN for (int i = 0; i < module->module->kernel_count; i++) {
        const hostcuda::Kernel& kernel = module->module->kernels[i];
        if (strcmp(kernel.name, name)) continue;
        auto [found, is_new] = module->functions.try_emplace(name, CUfunc_st{module, &kernel, WITHOUT_ASKING});
        *function = &found->second;
        return CUDA_SUCCESS;
    }
    return CUDA_ERROR_NOT_FOUND;
}
CUresult cuFuncGetAttribute(int* value, CUfunction_attribute attribute, CUfunction function) {
    BEGIN switch (attribute) {
        case CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK: *value = function->kernel->most_threads; break;
        case CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES: *value = (int)function->module->shared_bytes; break;
        case CU_FUNC_ATTRIBUTE_NUM_REGS: *value = 32; break;
        case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES: *value = function->most_dynamic_shared; break;
        default: *value = 0;
    }
    return CUDA_SUCCESS;
}
CUresult cuFuncSetAttribute(CUfunction function, CUfunction_attribute attribute, int value) {
    BEGIN if (attribute != CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES) return CUDA_SUCCESS;
    if (value > most_shared()) return CUDA_ERROR_INVALID_VALUE;
    function->most_dynamic_shared = value;
    return CUDA_SUCCESS;
}
CUresult cuFuncSetBlockShape(CUfunction, int, int, int) {
    BEGIN return CUDA_SUCCESS;  // PyCUDA calls it before a launch that says the same
}
CUresult cuFuncSetCacheConfig(CUfunction, CUfunc_cache) {
    BEGIN return CUDA_SUCCESS;
}
CUresult cuLaunchKernel(CUfunction function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                        unsigned shared, CUstream stream, void** parameters, void** extra) {
    BEGIN_IN_CONTEXT if (pending_error) return taken_error();
    bool fits = gx && gy && gz && bx && by && bz && gy < 65536 && gz < 65536 && bz <= 64 && (int)(bx * by * bz) <= function->kernel->most_threads;
    if (!fits || (int)shared > function->most_dynamic_shared || parameters)
        return report(CUDA_ERROR_INVALID_VALUE, std::string("kernel ") + function->kernel->name + " cannot be launched so");
    const unsigned char* buffer = nullptr;
    size_t bytes = 0;
    for (int i = 0; extra && extra[i] != CU_LAUNCH_PARAM_END; i += 2) {
        if (extra[i] == CU_LAUNCH_PARAM_BUFFER_POINTER) buffer = (const unsigned char*)extra[i + 1];
        if (extra[i] == CU_LAUNCH_PARAM_BUFFER_SIZE) bytes = *(size_t*)extra[i + 1];
    }
    if (bytes != function->kernel->argument_bytes)
        return report(CUDA_ERROR_INVALID_VALUE, std::string("kernel ") + function->kernel->name + " takes " +
                                                    std::to_string(function->kernel->argument_bytes) +
                                                    " bytes of arguments, not " + std::to_string(bytes));
    std::vector<unsigned char> arguments(buffer, buffer + bytes);
    launches++;
    return submit(stream, [=] { return launch(function, {gx, gy, gz}, {bx, by, bz}, shared, arguments); });
}

// --- streams, events, graphs

CUresult cuStreamCreate(CUstream* stream, unsigned) {
    BEGIN_IN_CONTEXT* stream = new CUstream_st;
    streams.insert(*stream);
    return CUDA_SUCCESS;
}
CUresult cuStreamDestroy(CUstream stream) {
    BEGIN let_work(stream, stream->submitted());
    streams.erase(stream);
    delete stream;
    return CUDA_SUCCESS;
}
CUresult cuStreamSynchronize(CUstream stream) {
    BEGIN_IN_CONTEXT return waited(stream);
}
CUresult cuStreamQuery(CUstream stream) {
    BEGIN_IN_CONTEXT if (CUresult error = unsafe("asking")) return error;
    return stream && !stream->waiting.empty() ? CUDA_ERROR_NOT_READY : CUDA_SUCCESS;
}
CUresult cuStreamWaitEvent(CUstream stream, CUevent event, unsigned) {
    BEGIN_IN_CONTEXT if (stream && stream->captures && !event->is_captured)
        return invalidate(CUDA_ERROR_STREAM_CAPTURE_ISOLATION, "waiting for other work");
    return submit(stream, [other = event->stream, place = event->place] {
        if (other) let_work(other, place);
        return CUDA_SUCCESS;
    });
}
CUresult cuEventCreate(CUevent* event, unsigned) {
    BEGIN_IN_CONTEXT* event = new CUevent_st;
    return CUDA_SUCCESS;
}
CUresult cuEventDestroy(CUevent event) {
    BEGIN delete event;
    return CUDA_SUCCESS;
}
CUresult cuEventRecord(CUevent event, CUstream stream) {
    BEGIN_IN_CONTEXT event->milliseconds = now();
    event->stream = stream;
    event->is_captured = stream && stream->captures;
    event->place = stream ? stream->submitted() : 0;
    return submit(stream, [] { return CUDA_SUCCESS; });
}
CUresult cuEventSynchronize(CUevent event) {
    BEGIN_IN_CONTEXT if (event->is_captured) return CUDA_ERROR_CAPTURED_EVENT;
    if (CUresult error = unsafe("waiting for an event")) return error;
    waits++;
    if (event->stream) let_work(event->stream, event->place);
    return taken_error();
}
CUresult cuEventQuery(CUevent event) {
    BEGIN_IN_CONTEXT if (event->is_captured) return CUDA_ERROR_CAPTURED_EVENT;
    if (CUresult error = unsafe("asking for an event")) return error;
    return event->stream && event->stream->done < event->place ? CUDA_ERROR_NOT_READY : CUDA_SUCCESS;
}
CUresult cuEventElapsedTime(float* milliseconds, CUevent start, CUevent end) {
    BEGIN* milliseconds = (float)(end->milliseconds - start->milliseconds);
    return CUDA_SUCCESS;
}
CUresult cuThreadExchangeStreamCaptureMode(CUstreamCaptureMode* mode) {
    BEGIN std::swap(*mode, thread_mode);
    return CUDA_SUCCESS;
}
CUresult cuStreamBeginCapture(CUstream stream, CUstreamCaptureMode mode) {
    BEGIN_IN_CONTEXT if (!stream || stream->captures) return CUDA_ERROR_INVALID_VALUE;
    stream->captures = true;
    stream->is_invalid = false;
    stream->mode = mode;
    stream->thread = std::this_thread::get_id();
    stream->captured.clear();
    captured_streams.insert(stream);
    return CUDA_SUCCESS;
}
CUresult cuStreamEndCapture(CUstream stream, CUgraph* graph) {
    BEGIN if (!stream->captures) return CUDA_ERROR_INVALID_VALUE;
    stream->captures = false;
    captured_streams.erase(stream);
    *graph = stream->is_invalid ? nullptr : new CUgraph_st{stream->captured};
    return stream->is_invalid ? CUDA_ERROR_STREAM_CAPTURE_INVALIDATED : CUDA_SUCCESS;
}
CUresult cuGraphInstantiateWithFlags(CUgraphExec* executable, CUgraph graph, unsigned long long) {
    BEGIN* executable = new CUgraphExec_st{graph->work};
    return CUDA_SUCCESS;
}
CUresult cuGraphLaunch(CUgraphExec executable, CUstream stream) {
    BEGIN_IN_CONTEXT if (pending_error) return taken_error();
    launches++;
    return submit(stream, [work = executable->work] { return run_all(work); });
}
CUresult cuGraphDestroy(CUgraph graph) {
    BEGIN delete graph;
    return CUDA_SUCCESS;
}
CUresult cuGraphExecDestroy(CUgraphExec executable) {
    BEGIN delete executable;
    return CUDA_SUCCESS;
}

// --- for tests

long hostcuda_waits() { return waits; }
long hostcuda_launches() { return launches; }

}  // extern "C"
