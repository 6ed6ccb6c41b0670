#pragma once
// The batched fit of small tables is written once, over a Place P that says where the numbers of its problems lie:
//
//   V                    the value type: kLanes problems side by side
//   Numbers<n>           n entries of a table, lane l of entry k at k * kStride + l
//   Sets<n>              two such tables, found by their number
//   Values<n>            n values, found by index
//   Resting<n>           the same for what is not needed in every step of an elimination
//   load(p), store(v, p) the lanes of one entry
//   Group<K>, at(g, k)   as many values as the formulas of a link take at once: K where kGroups, else 1
#include "core/lane.h"

// A loop over at most N numbers that are kept in registers, where N is known when compiling, else 0.
#if defined(__CUDA_ARCH__)
#define SOFTMAP_UNROLL(N) _Pragma("unroll")
#elif defined(SOFTMAP_EMULATED) || defined(__CUDACC__)
#define SOFTMAP_UNROLL(N)
#else
#define SOFTMAP_UNROLL(N) _Pragma("GCC unroll 8")
#endif

namespace softmap::dense {

using core::abs, core::all, core::any, core::exponent, core::fmadd, core::max, core::min, core::reciprocal, core::scale2,
    core::select, core::sqrt;

}  // namespace softmap::dense
