#pragma once
// The emulated device, as the files of the emulator see it. They are compiled without sanitizers: their own bookkeeping is no
// part of a kernel. What a sanitizer is to know of threads and memory they tell it by its hooks, which are weak symbols.
#include <map>
#include <string>
#include <vector>

#include "cuda_emulator.h"

extern "C" {
void* __attribute__((weak)) __tsan_create_fiber(unsigned flags);
void __attribute__((weak)) __tsan_destroy_fiber(void* fiber);
void __attribute__((weak)) __tsan_switch_to_fiber(void* fiber, unsigned flags);
void* __attribute__((weak)) __tsan_get_current_fiber();
void __attribute__((weak)) __tsan_acquire(void*);
void __attribute__((weak)) __tsan_release(void*);
void __attribute__((weak)) AnnotateIgnoreReadsBegin(const char*, int);
void __attribute__((weak)) AnnotateIgnoreReadsEnd(const char*, int);
void __attribute__((weak)) AnnotateIgnoreWritesBegin(const char*, int);
void __attribute__((weak)) AnnotateIgnoreWritesEnd(const char*, int);
void __attribute__((weak)) __sanitizer_start_switch_fiber(void** save, const void* bottom, size_t size);
void __attribute__((weak)) __sanitizer_finish_switch_fiber(void* save, const void** bottom, size_t* size);
void __attribute__((weak)) __asan_poison_memory_region(void const volatile*, size_t);
void __attribute__((weak)) __asan_unpoison_memory_region(void const volatile*, size_t);
}

namespace emulator {

inline void acquire(void* token) {
  if (__tsan_acquire) __tsan_acquire(token);
}
inline void release(void* token) {
  if (__tsan_release) __tsan_release(token);
}

// The thread sanitizer intercepts memcpy and malloc even here: what is done inside a Quiet is none of its business.
struct Quiet {
  Quiet() {
    if (!AnnotateIgnoreReadsBegin) return;
    AnnotateIgnoreReadsBegin("", 0);
    AnnotateIgnoreWritesBegin("", 0);
  }
  ~Quiet() {
    if (!AnnotateIgnoreReadsEnd) return;
    AnnotateIgnoreWritesEnd("", 0);
    AnnotateIgnoreReadsEnd("", 0);
  }
  Quiet(const Quiet&) = delete;
  Quiet& operator=(const Quiet&) = delete;
};

struct Block;

// A thread of a kernel.
struct Fiber {
  enum State { kReady, kWaits, kDone } state = kDone;
  uint3 thread{};
  Block* block = nullptr;
  int number = 0;              // in its block
  size_t place = 0;            // among all that are resident
  uint64_t cluster_phase = 0;  // of the meeting of the cluster at which it has arrived
  Site waits_at{};
  void* stack_pointer = nullptr;
  unsigned char* stack = nullptr;
  void *tsan = nullptr, *fake_stack = nullptr;

  int lane() const { return number & 31; }
  size_t warp() const { return size_t(number) / 32; }
};

// Where some threads wait for one another, time after time. What they did before is ordered by a token, of the present time and
// of the next: nobody is further ahead.
struct Meeting {
  int here = 0;
  uint64_t phase = 0;
  Site site{};  // of those who are here
  std::vector<Fiber*> waiting;
  char token[2];
};

// The lanes of a mask.
struct Lanes {
  unsigned mask;
  Meeting meeting;
  alignas(16) unsigned char slot[2][32][16];
};
struct Warp {
  unsigned live = 0;
  std::map<unsigned, Lanes> by_mask;
};

struct Cluster {
  int live = 0;
  Meeting meeting;
  std::vector<Block*> blocks;
  char *before = nullptr, *after = nullptr;  // tokens
};

constexpr size_t kStaticShared = 48 * 1024, kMostShared = 227 * 1024, kRedZone = 32;
constexpr size_t kArena = kStaticShared + kMostShared + kRedZone + 1024;
// The shared memory of a block that is resident. It serves one block after the other, which tokens say: the threads of a cluster
// come after all of the one before it, but not after each other.
struct Arena {
  unsigned char* memory;
  char token[2];
};
struct Block {
  uint3 index{};
  unsigned rank = 0;  // in its cluster
  Cluster* cluster = nullptr;
  std::vector<Warp> warps;
  int live = 0;
  int said_true[3] = {0, 0, 0};  // at __syncthreads_count, by phase: the last one may still be read
  Meeting meeting;
  Arena* arena = nullptr;
  size_t used = 0;
  struct Array {
    size_t start, bytes;
    Site site;
  };
  std::map<const void*, Array> shared;  // static arrays
};

struct Schedule {
  enum Order { kForward, kReverse, kRandom } order = kForward;
  uint64_t state = 0;  // of the random numbers
  size_t below(size_t n);
};

// Places of the threads that can go on.
class ReadySet {
 public:
  void clear(size_t n);
  void insert(size_t place);
  bool empty() const { return count_ == 0; }
  size_t take(Schedule& schedule);

 private:
  size_t next_from(size_t word, uint64_t first_bits) const;
  std::vector<uint64_t> words_;
  size_t count_ = 0;
};

struct Machine {
  const Launch* launch = nullptr;
  const std::function<void()>* body = nullptr;
  Schedule schedule;
  std::vector<Fiber*> pool;  // by place
  std::vector<Arena*> arenas;
  ReadySet ready;
  std::vector<Fiber*> resting;  // until nobody else can go on
  Fiber* running = nullptr;
  Meeting grid;
  int grid_live = 0;
  char begin, end, fence;  // tokens
  std::string error;
};
extern Machine machine;

void fail(const std::string& what);  // the first failure ends the launch
std::string text_of(const Site& site);

// fibers.cpp
Fiber* new_fiber();  // nullptr where there is no memory for its stack
void drop(Fiber* fiber);
void prepare(Fiber* fiber);              // to run the body of the launch from its start
void run(Fiber* fiber);                  // until it gives up
void give_up(Fiber::State state, Site);  // of the thread that runs

// meetings.cpp
void open_if_all_are_here(Meeting& meeting, int live);
void leave(Fiber* fiber);  // a thread has come to its end
void check_red_zones(const Block& block);

}  // namespace emulator
