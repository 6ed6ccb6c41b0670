// The contract of core/lane.h and cpu/lanes.h, operation by operation against the scalar model. For any instruction set, also one
// that is only emulated: prints what differs, and returns 1.
#include <cmath>
#include <cstdio>

#include "cpu/lanes_exp.h"
#include "cpu/lanes_half.h"
#include "cpu/transpose.h"

namespace {

using namespace softmap;
using softmap::cpu::Lanes;
int g_failures = 0;

template <class T>
void expect_same(const char* what, const Lanes<T>& got, const T* want) {
  T x[Lanes<T>::size];
  got.store(x);
  for (int k = 0; k < Lanes<T>::size; ++k) {
    const bool same = x[k] == want[k] || (x[k] != x[k] && want[k] != want[k]);
    if (same) continue;
    std::printf("%s, lane %d: %a, expected %a\n", what, k, double(x[k]), double(want[k]));
    ++g_failures;
  }
}

template <class T>
struct Check {
  using L = Lanes<T>;
  using Int = typename core::Format<T>::Int;
  static constexpr int n = L::size;
  T a[n], b[n], c[n], want[n];

  template <class F, class G>
  void each(const char* what, F lanes, G scalar) {
    for (int k = 0; k < n; ++k) want[k] = scalar(a[k], b[k], c[k]);
    expect_same(what, lanes(L::load(a), L::load(b), L::load(c)), want);
  }

  void arithmetic() {
    each("+", [](L x, L y, L) { return x + y; }, [](T x, T y, T) { return x + y; });
    each("-", [](L x, L y, L) { return x - y; }, [](T x, T y, T) { return x - y; });
    each("*", [](L x, L y, L) { return x * y; }, [](T x, T y, T) { return x * y; });
    each("/", [](L x, L y, L) { return x / y; }, [](T x, T y, T) { return x / y; });
    each("negation", [](L x, L, L) { return -x; }, [](T x, T, T) { return -x; });
    each("max", [](L x, L y, L) { return max(x, y); }, [](T x, T y, T) { return core::max(x, y); });
    each("min", [](L x, L y, L) { return min(x, y); }, [](T x, T y, T) { return core::min(x, y); });
    each("abs", [](L x, L, L) { return abs(x); }, [](T x, T, T) { return core::abs(x); });
    each("sqrt", [](L x, L, L) { return sqrt(abs(x)); }, [](T x, T, T) { return core::sqrt(core::abs(x)); });
    each("fmadd", [](L x, L y, L z) { return fmadd(x, y, z); }, [](T x, T y, T z) { return core::fmadd(x, y, z); });
    const auto chosen = [](L x, L y, L z) { return select((x < y) & !(y == z), x, select((z <= x) | (z > y), y, z)); };
    each("masks", chosen, [](T x, T y, T z) { return x < y && !(y == z) ? x : (z <= x || z > y) ? y : z; });
  }
  // a: any number of a moderate size.
  void exponents() {
    each("round_even", [](L x, L, L) { return round_even(x); }, [](T x, T, T) { return core::round_even(x); });
    each("exponent", [](L x, L, L) { return exponent(abs(x)); }, [](T x, T, T) { return core::exponent(core::abs(x)); });
    const auto scaled = [](L x, L y, L) { return scale2(x, round_even(y)); };
    each("scale2", scaled, [](T x, T y, T) { return core::scale2(x, core::round_even(y)); });
  }
  void places() {
    Int k[n];
    for (int j = 0; j < n; ++j) k[j] = Int((5 * j + 3) % n), want[j] = a[k[j]];
    expect_same("permute", permute(L::load(a), k), want);
    for (int j = 0; j < n; ++j) k[j] = Int((7 * j + 1) % (2 * n)), want[j] = k[j] < n ? a[k[j]] : b[k[j] - n];
    expect_same("permute of two", permute(L::load(a), L::load(b), k), want);
    for (int count = 0; count <= n; ++count) {
      for (int j = 0; j < n; ++j) want[j] = j < count ? a[j] : T(7);
      expect_same("load of a part", L::load(a, count, T(7)), want);
      T to[n];
      for (int j = 0; j < n; ++j) to[j] = T(7);
      L::load(a).store(to, count);
      expect_same("store of a part", L::load(to), want);
    }
    if (first_lane(L::load(a)) != a[0]) std::printf("first_lane\n"), ++g_failures;
    L square[n];
    for (int r = 0; r < n; ++r) square[r] = L::load(a) + L(T(1000 * r));
    cpu::transpose(square);
    for (int r = 0; r < n; ++r) {
      for (int j = 0; j < n; ++j) want[j] = a[r] + T(1000 * j);
      expect_same("transpose", square[r], want);
    }
    const auto few = L::load(a) < L(T(0)), none = L::load(a) < L::load(a);
    bool some = false, every = true;
    for (const T x : a) some |= x < T(0), every &= x < T(0);
    if (any(few) != some || all(few) != every || any(none) || all(none) || !all(!none)) std::printf("any, all\n"), ++g_failures;
  }
};

template <class T>
void check() {
  constexpr T kSpecial[] = {core::kNaN<T>, core::kInf<T>, -core::kInf<T>, T(0), T(-0.), T(1), T(-2.5)};
  unsigned state = 12345;
  const auto random = [&](T size) {
    state = state * 1664525u + 1013904223u;
    return (T(state >> 8) * T(0x1p-23) - T(1)) * size;
  };
  Check<T> c;
  for (int round = 0; round < 2000; ++round) {
    for (int k = 0; k < c.n; ++k) c.a[k] = random(T(100)), c.b[k] = random(T(100)), c.c[k] = random(T(100));
    c.exponents();
    c.places();
    c.arithmetic();
    c.a[round % c.n] = kSpecial[round % 7];
    c.b[(round / 7) % c.n] = kSpecial[round / 7 % 7];
    c.each("max of special values", [](auto x, auto y, auto) { return max(x, y); }, [](T x, T y, T) { return core::max(x, y); });
    const auto fused = [](auto x, auto y, auto z) { return fmadd_where(not_less(x, y), x, y, z); };
    c.each("fmadd_where", fused, [](T x, T y, T z) { return x < y ? T(0) : core::fmadd(x, y, z); });
    c.each("min of special values", [](auto x, auto y, auto) { return min(x, y); }, [](T x, T y, T) { return core::min(x, y); });
  }
}

void check_halves() {
  float x[Lanes<float>::size];
  for (int k = 0; k < Lanes<float>::size; ++k) x[k] = float(k) + 0.1f;
  const auto v = Lanes<float>::load(x), back = cpu::from_halves(cpu::low_half(v), cpu::high_half(v));
  expect_same("halves", back, x);
}

// Numbers to 16 bits and back: the nearest, alone or beside another, in memory or past the caches; ties are left out.
template <class S>
void check_numbers() {
  constexpr int n = Lanes<float>::size;
  float x[2 * n], want[2 * n];
  alignas(128) S to[2 * n];
  const auto expect = [&](const char* what, int count) {
    for (int k = 0; k < count; ++k) {
      if (core::to_compute(to[k]) == want[k]) continue;
      std::printf("%s, %d: %a, expected %a\n", what, k, double(core::to_compute(to[k])), double(want[k]));
      ++g_failures;
    }
    for (S& s : to) s = S{};
  };
  for (int round = 0; round < 2000; ++round) {
    for (int k = 0; k < 2 * n; ++k) {
      x[k] = std::ldexp(1.f + float((k * 7919 + round * 104729) % 8388593) * 0x1p-23f, (k + round) % 40 - 24);
      if (round % 10 == 0 && k % 5 == 0) x[k] = k % 2 ? 0.f : core::kInf<float>;
      if (round % 3 == 0) x[k] = -x[k];
      want[k] = core::to_compute(core::to_storage<S>(x[k]));
      const float above = core::to_compute(core::to_storage<S>(std::nextafter(x[k], core::kInf<float>)));
      const float below = core::to_compute(core::to_storage<S>(std::nextafter(x[k], -core::kInf<float>)));
      if (above != below && x[k] != 0) x[k] = want[k];
    }
    const auto a = Lanes<float>::load(x), b = Lanes<float>::load(x + n);
    cpu::store_numbers(to, a, b), expect("two registers of numbers", 2 * n);
    cpu::stream_numbers(to, a, b), cpu::stream_fence(), expect("two registers of numbers past the caches", 2 * n);
    cpu::store_numbers(to, a), expect("a register of numbers", n);
    cpu::stream_numbers(to, a), cpu::stream_fence(), expect("a register of numbers past the caches", n);
    const int count = round % n;
    cpu::store_first_numbers(to, count, a), expect("the first numbers of a register", count);
    cpu::store_first_numbers(to, count, a);
    for (int k = count; k < 2 * n; ++k) want[k] = 0;
    expect("and nothing after them", 2 * n);
  }
}

}  // namespace

int main() {
  check<float>();
  check<double>();
  check_halves();
  check_numbers<core::Half>();
  check_numbers<core::BFloat16>();
  std::printf("lanes of %d floats: %d failures\n", Lanes<float>::size, g_failures);
  return g_failures > 0;
}
