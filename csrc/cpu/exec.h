#pragma once
namespace softmap::cpu {
struct Exec {
  int n_threads;  // at least 1
};
}  // namespace softmap::cpu
