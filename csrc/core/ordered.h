#pragma once
#include "core/lane.h"

namespace softmap::core {

template <class T>
struct OrderedBits;
template <>
struct OrderedBits<float> {
  using type = std::uint32_t;
};
template <>
struct OrderedBits<double> {
  using type = std::uint64_t;
};

// The bits of a number as an unsigned integer of the same order; -0 is 0.
template <class T, class U = typename OrderedBits<T>::type>
SOFTMAP_HD U ordered(T x) {
  x = x + T(0);
  U bits;
  memcpy(&bits, &x, sizeof x);
  constexpr U kSign = U(1) << (8 * sizeof(U) - 1);
  return bits & kSign ? ~bits : bits | kSign;
}

// The number of these bits.
template <class T, class U = typename OrderedBits<T>::type>
SOFTMAP_HD T from_ordered(U ordered_bits) {
  constexpr U kSign = U(1) << (8 * sizeof(U) - 1);
  const U bits = ordered_bits & kSign ? ordered_bits ^ kSign : ~ordered_bits;
  T x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

}  // namespace softmap::core
