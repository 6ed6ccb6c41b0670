#pragma once
// What exists once per process and is shared by all backend modules. The table travels from `_runtime` to a backend in a
// capsule, so that the modules need not link with each other.
#include "views.h"

namespace softmap {

struct Runtime {
  // Calls body(context, chunk, slot) once for every chunk in [0, n_chunks), on at most n_threads threads including this one,
  // and returns when all are done; slot < n_threads is the thread's number in this call. body must not throw and must not
  // call back. Chunks are claimed in order by whoever is free; the caller never waits for a thread that has not started.
  void (*parallel)(Index n_chunks, int n_threads, void (*body)(void*, Index, int), void* context);
  // Threads to use when the caller did not say.
  int (*default_threads)();
  // Memory for a large result, and its return: nullptr where the pool is off or the system has no more.
  void* (*acquire)(std::size_t bytes);
  void (*release)(void* data);
  // Bytes of the data cache of that level, 2 or 3.
  std::size_t (*cache_bytes)(int level);
};

inline constexpr const char* kRuntimeCapsule = "softmap._runtime.v2";

}  // namespace softmap
