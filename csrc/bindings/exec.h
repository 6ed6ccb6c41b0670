#pragma once
// How this module's backend is told to run.
#include "bindings/array.h"
#include "cpu/exec.h"
#include "cpu/parallel.h"

namespace softmap::bindings {

inline int threads_for(const char* function, py::handle n_threads) {
  return thread_count(function, n_threads, cpu::runtime().default_threads());
}
// For the Python layer, where no kernel is called.
inline void check_threads(const std::string& function, py::handle n_threads) { thread_count(function.c_str(), n_threads, 1); }
inline cpu::Exec make_exec(int n_threads) { return {n_threads}; }

}  // namespace softmap::bindings
