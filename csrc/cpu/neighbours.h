#pragma once
// Who is joined to whom, in arrays of a growing kind that needs no std::vector: files with instruction-set flags may not
// instantiate it.
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>

#include "cpu/parallel.h"
#include "views.h"

namespace softmap::cpu {
namespace {

template <class T>
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(Index size)
      : data_(static_cast<T*>(allocate(static_cast<std::size_t>(size) * sizeof(T)))), size_(size), room_(size) {}
  Buffer(Index size, T value) : Buffer(size) {
    for (Index k = 0; k < size; ++k) data_[k] = value;
  }
  ~Buffer() { std::free(data_); }
  Buffer(Buffer&& other) noexcept { swap(other); }
  Buffer& operator=(Buffer&& other) noexcept {
    swap(other);
    return *this;
  }
  void swap(Buffer& other) noexcept {
    const auto exchange = [](auto& a, auto& b) {
      const auto t = a;
      a = b;
      b = t;
    };
    exchange(data_, other.data_);
    exchange(size_, other.size_);
    exchange(room_, other.room_);
  }

  T& operator[](Index k) { return data_[k]; }
  const T& operator[](Index k) const { return data_[k]; }
  Index size() const { return size_; }
  T* data() { return data_; }
  const T* data() const { return data_; }
  T& last() { return data_[size_ - 1]; }
  void push(T value) {
    if (size_ == room_) reserve(2 * room_ + 16);
    data_[size_++] = value;
  }
  T pop() { return data_[--size_]; }
  void clear() { size_ = 0; }

 private:
  void reserve(Index room) {
    void* const larger = std::realloc(data_, static_cast<std::size_t>(room > 0 ? room : 1) * sizeof(T));
    if (!larger) throw std::bad_alloc();
    data_ = static_cast<T*>(larger);
    room_ = room;
  }
  T* data_ = nullptr;
  Index size_ = 0, room_ = 0;
};

using Node = std::int32_t;

// The neighbours of node i: at[starts[i]] .. at[starts[i + 1] - 1], each with the number of its edge.
struct Neighbours {
  Buffer<Index> starts;
  Buffer<Node> at, edge;
};

// Edges in the direction given, or in both.
Neighbours neighbours_of(Index n, Index n_edges, const auto* from, const auto* to, bool both) {
  Neighbours r{Buffer<Index>(n + 1, 0), Buffer<Node>(both ? 2 * n_edges : n_edges), Buffer<Node>(both ? 2 * n_edges : n_edges)};
  for (Index e = 0; e < n_edges; ++e) {
    ++r.starts[from[e] + 1];
    if (both) ++r.starts[to[e] + 1];
  }
  for (Index i = 0; i < n; ++i) r.starts[i + 1] += r.starts[i];
  Buffer<Index> next(n + 1, 0);
  for (Index i = 0; i <= n; ++i) next[i] = r.starts[i];
  const auto add = [&](Index i, Index j, Index e) {
    const Index k = next[i]++;
    r.at[k] = static_cast<Node>(j);
    r.edge[k] = static_cast<Node>(e);
  };
  for (Index e = 0; e < n_edges; ++e) {
    add(from[e], to[e], e);
    if (both) add(to[e], from[e], e);
  }
  return r;
}

}  // namespace
}  // namespace softmap::cpu
