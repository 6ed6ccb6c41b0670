#pragma once
// Work over chunks whose boundaries depend on the problem alone, never on the number of threads.
#include <sys/mman.h>

#include <cstdlib>
#include <new>

#include "cpu/exec.h"
#include "runtime/runtime.h"

namespace softmap::cpu {

const Runtime& runtime();  // bindings/module.cpp, filled from the capsule of _runtime

// Below this many elements (10 to 50 us of work) a call stays on its own thread.
inline constexpr Index kSerialElements = 1 << 16;

// Threads that parallel_for uses at most.
inline int slots_for(const Exec& exec, Index n, Index chunk, Index elements) {
  const Index n_chunks = (n + chunk - 1) / chunk;
  if (elements < kSerialElements || n_chunks <= 1) return 1;
  return n_chunks < exec.n_threads ? static_cast<int>(n_chunks) : exec.n_threads;
}

// body(first, last, slot) over [0, n) in chunks of `chunk`; slot < slots_for(...) tells concurrent calls apart.
template <class Body>
void parallel_for(const Exec& exec, Index n, Index chunk, Index elements, Body&& body) {
  const Index n_chunks = (n + chunk - 1) / chunk;
  const int n_slots = slots_for(exec, n, chunk, elements);
  if (n_slots <= 1) {
    if (n > 0) body(Index(0), n, 0);
    return;
  }
  struct Context {
    Body& body;
    Index n, chunk;
  } context{body, n, chunk};
  runtime().parallel(
      n_chunks, n_slots,
      [](void* p, Index k, int slot) {
        auto& c = *static_cast<Context*>(p);
        const Index first = k * c.chunk, last = first + c.chunk;
        c.body(first, last < c.n ? last : c.n, slot);
      },
      &context);
}

// Memory for std::free. Large blocks are of huge pages where the system has them: random access to small pages costs as much
// for the addresses as for the data. Throws std::bad_alloc.
inline void* allocate(std::size_t bytes) {
  constexpr std::size_t kHugePage = std::size_t(2) << 20;
  const std::size_t step = bytes < kHugePage ? 64 : kHugePage, rounded = (bytes / step + 1) * step;
  void* const data = std::aligned_alloc(step, rounded);
  if (!data) throw std::bad_alloc();
#if defined(MADV_HUGEPAGE)
  if (step == kHugePage) madvise(data, rounded, MADV_HUGEPAGE);
#endif
  return data;
}

// `size` elements of T for each slot, or none. Throws std::bad_alloc, so make it before the threads start.
template <class T>
class Scratch {
 public:
  Scratch(int n_slots, Index size) : size_((size + 15) / 16 * 16) {
    const auto bytes = sizeof(T) * static_cast<std::size_t>(size_) * static_cast<std::size_t>(n_slots);
    data_ = bytes > 0 ? static_cast<T*>(allocate(bytes)) : nullptr;
  }
  ~Scratch() { std::free(data_); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  T* operator[](int slot) const { return data_ + size_ * slot; }

 private:
  Index size_;
  T* data_;
};

}  // namespace softmap::cpu
