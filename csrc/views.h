#pragma once
// Arrays as the kernels see them: memory borrowed from Python for one call, never owned.
#include <cstddef>

#include "core/lane.h"

namespace softmap {

using Index = std::ptrdiff_t;

inline constexpr int kMaxAxes = 64;  // NumPy's limit

// Some axes of an array, outermost first; strides count elements. The bindings merge axes that lie in memory as one.
struct Axes {
  int n = 0;
  Index extent[kMaxAxes];
  Index stride[kMaxAxes];

  SOFTMAP_HD Index size() const {
    Index s = 1;
    for (int k = 0; k < n; ++k) s *= extent[k];
    return s;
  }
  // Distance in elements from the first to the i-th entry, counted with the last axis fastest.
  SOFTMAP_HD Index offset(Index i) const {
    if (n == 0) return 0;
    Index r = 0;
    for (int k = n - 1; k > 0; --k) {
      r += i % extent[k] * stride[k];
      i /= extent[k];
    }
    return r + i * stride[0];
  }
  SOFTMAP_HD bool contiguous() const { return n == 0 || (n == 1 && stride[0] == 1); }
};

// An array as rows: `across` enumerates the rows, `along` runs through one row.
template <class T>
struct Rows {
  T* data;
  Axes across, along;
  SOFTMAP_HD T* row(Index i) const { return data + across.offset(i); }
};

// A temperature a row, or one for all (stride 0).
template <class T>
struct PerRow {
  const T* data;
  Index stride;
  SOFTMAP_HD T operator[](Index i) const { return data[i * stride]; }
};

// A C-contiguous array of `count` blocks.
template <class T>
struct Span {
  T* data;
  Index size;
};

}  // namespace softmap
