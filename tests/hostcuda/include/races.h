// Races in shared memory: two threads of a block touch the same number, one of them writes, and no barrier lies between.
//
// Every access is compared with the last ones of others, as compute-sanitizer's racecheck does. What orders accesses is a
// barrier of the block, and __syncwarp of all lanes for those of a warp; shuffles and votes do not.
#pragma once

#include <vector>

namespace races {

// Shared addresses: the module's own variables first, from here on what the launch asks for.
constexpr unsigned DYNAMIC = 1 << 24;

enum Access { READ, WRITE, ATOMIC };

constexpr unsigned NOBODY = 0xffff, SEVERAL = 0xfffe, WARPS = 32;

// An access, or several that nothing orders: how many barriers and warp barriers the threads had come past.
struct Event {
    unsigned short thread = NOBODY, warp = WARPS;
    unsigned barriers = 0, warp_barriers = 0;
};
// Of two bytes, the shortest numbers that kernels share.
constexpr size_t PLACE = 2;
struct Place {
    unsigned long block = 0;  // whose events these are
    Event written, read;
    bool is_atomic = false;  // what has written it
};
struct Copy {
    unsigned address;
    size_t bytes;
};
// How far a thread is.
struct Progress {
    unsigned long block = 0;
    unsigned barriers = 0, warp_barriers = 0;
    std::vector<std::vector<Copy>> copies = std::vector<std::vector<Copy>>(1);  // by group; the last is open
};

static Progress progress[1024];
static std::vector<Place> own, of_launch;  // the module's variables, and what the launch asks for

inline Progress& mine() {
    Progress& found = progress[hostcuda::current->linear];
    if (found.block != hostcuda::block.serial) found = {hostcuda::block.serial};
    return found;
}
inline Event now() {
    const unsigned thread = hostcuda::current->linear;
    return {(unsigned short)thread, (unsigned short)(thread / hostcuda::WARP), mine().barriers, mine().warp_barriers};
}
inline bool comes_after(const Event& me, const Event& other) {
    return other.thread == NOBODY || other.thread == me.thread || me.barriers > other.barriers ||
           (me.warp == other.warp && me.warp_barriers > other.warp_barriers);
}
inline void add(Event& known, const Event& me) {
    if (comes_after(me, known)) {
        known = me;
        return;
    }
    known.thread = SEVERAL;
    if (known.warp != me.warp) known.warp = WARPS;
    known.barriers = std::max(known.barriers, me.barriers);
    known.warp_barriers = std::max(known.warp_barriers, me.warp_barriers);
}
inline void tell(const Event& other, const char* did) {
    char text[120], who[40];
    snprintf(who, sizeof who, other.thread == SEVERAL ? "several threads have" : "thread %u has", other.thread);
    snprintf(text, sizeof text, "a race in shared memory: %s %s it, and no barrier lies between", who, did);
    hostcuda::runtime->fail(text);
}
inline void touch(Place& place, const Event& me, Access access) {
    if (place.block != hostcuda::block.serial) place = {hostcuda::block.serial};
    const bool is_one_of_many = access == ATOMIC && place.is_atomic;
    if (!is_one_of_many && !comes_after(me, place.written)) tell(place.written, "written");
    if (access == READ) return add(place.read, me);
    if (!comes_after(me, place.read)) tell(place.read, "read");
    place.read = {};
    is_one_of_many ? add(place.written, me) : void(place.written = me);
    place.is_atomic = access == ATOMIC;
}
inline void touch(unsigned address, size_t bytes, Access access) {
    auto& known = address < DYNAMIC ? own : of_launch;
    const size_t first = address % DYNAMIC / PLACE, end = first + (bytes + PLACE - 1) / PLACE;
    if (known.size() < end) known.resize(end);
    const Event me = now();
    for (size_t i = first; i < end; i++) touch(known[i], me, access);
}
inline void past_barrier() { mine().barriers++; }
inline void past_warp_barrier(unsigned mask) {
    if (mask == 0xffffffff) mine().warp_barriers++;
}

// Asynchronous copies write when they are begun, for what others have still to read, and when they are waited for.
inline void begin_copy(unsigned address, size_t bytes) {
    touch(address, bytes, WRITE);
    mine().copies.back().push_back({address, bytes});
}
inline void commit_copies() { mine().copies.emplace_back(); }
inline void wait_copies(size_t pending) {
    auto& groups = mine().copies;
    for (; groups.size() - 1 > pending; groups.erase(groups.begin()))
        for (const Copy& copy : groups.front()) touch(copy.address, copy.bytes, WRITE);
}

}  // namespace races
