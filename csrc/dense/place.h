#pragma once
// The batched fit of small tables is written once, over a Place P that says where the numbers of its problems lie:
//
//   V                    the value type: kLanes problems side by side
//   Numbers<n>           n entries of a table, lane l of entry k at k * kStride + l
//   Values<n>            n values, found by index
//   load(p), store(v, p) the lanes of one entry
//   Group<K>, at(g, k)   as many values as the formulas of a link take at once: K where kGroups, else 1
#include "core/lane.h"

#if defined(__CUDACC__)
#define SOFTMAP_UNROLL _Pragma("unroll")
#else
#define SOFTMAP_UNROLL _Pragma("GCC unroll 8")
#endif

namespace softmap::dense {

using core::abs, core::all, core::any, core::exponent, core::fmadd, core::max, core::min, core::reciprocal, core::scale2,
    core::select, core::sqrt;

}  // namespace softmap::dense
