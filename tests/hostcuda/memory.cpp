#include "memory.h"

#include <cstring>
#include <map>
#include <memory>

#include <sys/mman.h>
#include <unistd.h>

namespace hostcuda {
namespace {

constexpr size_t ALIGNMENT = 16;  // of the widest load
constexpr unsigned char FILLING = 0xff;

std::map<uintptr_t, std::unique_ptr<GuardedBlock>> blocks;
size_t used = 0;

size_t rounded(size_t bytes, size_t unit) { return (bytes + unit - 1) / unit * unit; }

}  // namespace

GuardedBlock::GuardedBlock(size_t bytes) : bytes_(bytes) {
    size_t page = getpagesize();
    size_t inside = rounded(bytes ? bytes : 1, page);
    region_bytes_ = inside + 2 * page;
    region_ = (unsigned char*)mmap(nullptr, region_bytes_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    mprotect(region_ + page, inside, PROT_READ | PROT_WRITE);
    memset(region_ + page, FILLING, inside);
    data_ = region_ + page + inside - rounded(bytes, ALIGNMENT);
}

GuardedBlock::~GuardedBlock() { munmap(region_, region_bytes_); }

bool GuardedBlock::is_intact() {
    bool result = true;
    auto look = [&](unsigned char* from, unsigned char* to) {
        for (unsigned char* p = from; p < to; p++) {
            result = result && *p == FILLING;
            *p = FILLING;  // said once is enough: who asks next may not be the one who did it
        }
    };
    look(region_ + getpagesize(), data_);
    look(data_ + bytes_, region_ + region_bytes_ - getpagesize());
    return result;
}

bool GuardedBlock::is_near(const void* address) const {
    return (unsigned char*)address >= region_ && (unsigned char*)address < region_ + region_bytes_;
}

unsigned char* allocate(size_t bytes, size_t limit) {
    if (used + bytes > limit) return nullptr;
    auto block = std::make_unique<GuardedBlock>(bytes);
    unsigned char* data = block->data();
    blocks[(uintptr_t)data] = std::move(block);
    used += bytes;
    return data;
}

std::string release(void* address) {
    auto found = blocks.find((uintptr_t)address);
    if (found == blocks.end()) return "memory is freed that is not allocated";
    std::string problem = found->second->is_intact() ? "" : "a kernel wrote just beside a block of memory";
    used -= found->second->bytes();
    blocks.erase(found);
    return problem;
}

size_t used_memory() { return used; }

GuardedBlock* find(const void* address) {
    auto after = blocks.upper_bound((uintptr_t)address);
    if (after == blocks.begin()) return nullptr;
    GuardedBlock* block = std::prev(after)->second.get();
    return (unsigned char*)address < block->data() + block->bytes() ? block : nullptr;
}

std::string check(const void* address, size_t bytes) {
    if (bytes == 0) return "";
    GuardedBlock* block = find(address);
    if (!block) return "a copy from or to memory that is not allocated";
    if ((unsigned char*)address + bytes > block->data() + block->bytes()) return "a copy beyond the end of a block";
    return block->is_intact() ? "" : "a kernel wrote just beside a block of memory";
}

std::string describe_address(const void* address) {
    for (auto& [start, block] : blocks) {
        if (!block->is_near(address)) continue;
        long beyond = (unsigned char*)address - (block->data() + block->bytes());
        long before = block->data() - (unsigned char*)address;
        std::string size = std::to_string(block->bytes());
        if (beyond >= 0) return "touches " + std::to_string(beyond) + " bytes beyond the end of a block of " + size;
        return "touches " + std::to_string(before) + " bytes before a block of " + size;
    }
    return "touches memory that is not allocated, or a vector that is not aligned";
}

}  // namespace hostcuda
