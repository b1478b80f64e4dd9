// Device memory: every block ends at a page that cannot be touched, and what is around it is watched.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace hostcuda {

// Memory whose last byte lies less than 16 bytes before a page without access. Filled with 0xff: not a number.
class GuardedBlock {
  public:
    explicit GuardedBlock(size_t bytes);
    ~GuardedBlock();
    GuardedBlock(const GuardedBlock&) = delete;
    unsigned char* data() const { return data_; }
    size_t bytes() const { return bytes_; }
    // Whether nothing was written beside the block since this was asked last.
    bool is_intact();
    bool is_near(const void* address) const;

  private:
    unsigned char *region_, *data_;
    size_t bytes_, region_bytes_;
};

// All device memory. allocate returns nullptr when the device has no more.
unsigned char* allocate(size_t bytes, size_t limit);
// Empty, or what is wrong with the block.
std::string release(void* address);
size_t used_memory();
// Empty, or why these bytes are no device memory, or what was written beside the block they belong to.
std::string check(const void* address, size_t bytes);
// The block an address lies in.
GuardedBlock* find(const void* address);
// In words, where an address lies that must not be touched.
std::string describe_address(const void* address);

}  // namespace hostcuda
