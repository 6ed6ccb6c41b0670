#pragma once
// exp on lanes for inner loops: a table of roots of 2 in a register, a short polynomial, and the exponent added to the bits.
// Less than core::exp_pair gives (one number instead of a pair, a bounded range) for less than half of its instructions.
#include <type_traits>

#include "core/exp_pair.h"
#include "core/half.h"
#include "cpu/lanes.h"

namespace softmap::cpu {

// Beyond this |x| the reference of ScaledExp is no longer exact.
template <class T>
inline constexpr T kScaledExpLimit = T(0x1p47);
template <>
inline constexpr float kScaledExpLimit<float> = 0x1.6p16f;

// The first factor of exp(x) = 2^(N / 2^bits) exp(r), where the lowest bits of z hold the integer N.
template <class T>
struct Roots;

#if defined(__AVX512F__)

template <>
struct Roots<float> {
  static constexpr int bits = 4;
  static constexpr double factor = core::RootTable<float, 4>::factor;
  static constexpr const auto& polynomial = core::kExpBy16<float>;
  __m512i table = _mm512_load_si512(core::kRoots<float, 4>.entry);
  Lanes<float> operator()(Lanes<float> z) const {
    const __m512i n = _mm512_castps_si512(z.v);
    return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_permutexvar_epi32(n, table), _mm512_slli_epi32(n, 23 - bits)));
  }
};

template <>
struct Roots<double> {
  static constexpr int bits = 4;
  static constexpr double factor = 1;
  static constexpr const auto& polynomial = core::kExpBy16<double>;
  __m512i low, high;
  explicit Roots(const std::int64_t* entry = core::kRoots<double, 4>.entry)
      : low(_mm512_load_si512(entry)), high(_mm512_load_si512(entry + 8)) {}
  Lanes<double> operator()(Lanes<double> z) const {
    const __m512i n = _mm512_castpd_si512(z.v);
    return _mm512_castsi512_pd(_mm512_add_epi64(_mm512_permutex2var_epi64(low, n, high), _mm512_slli_epi64(n, 52 - bits)));
  }
};

#elif defined(__AVX2__)

template <>
struct Roots<float> {
  static constexpr int bits = 3;
  static constexpr double factor = core::RootTable<float, 3>::factor;
  static constexpr const auto& polynomial = core::kExpBy8;
  __m256i table = _mm256_load_si256(reinterpret_cast<const __m256i*>(core::kRoots<float, 3>.entry));
  Lanes<float> operator()(Lanes<float> z) const {
    const __m256i n = _mm256_castps_si256(z.v);
    return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_permutevar8x32_epi32(table, n), _mm256_slli_epi32(n, 23 - bits)));
  }
};

// AVX2 cannot look up doubles.
template <>
struct Roots<double> {
  static constexpr int bits = 0;
  static constexpr double factor = 1;
  static constexpr const auto& polynomial = core::kExp<double>;
  Lanes<double> operator()(Lanes<double> z) const {
    const __m256i one = _mm256_castpd_si256(_mm256_set1_pd(1));
    return _mm256_castsi256_pd(_mm256_add_epi64(_mm256_slli_epi64(_mm256_castpd_si256(z.v), 52), one));
  }
};

#else

template <class T>
struct Roots {
  using F = core::Format<T>;
  static constexpr int bits = 0;
  static constexpr double factor = 1;
  static constexpr const auto& polynomial = core::kExp<T>;
  Lanes<T> operator()(Lanes<T> z) const { return shift_left(z, F::mantissa_bits, Lanes<T>(T(1))); }
};

#endif

// Roots for quotients, where a common factor does not count.
template <class T>
struct QuotientRoots : Roots<T> {};

#if defined(__AVX512F__)

// c 2^(j / 16) less the j that the shift adds, with a common factor c, found by search, that leaves 0.15 ULP of rounding.
struct DoubleRoots {
  static constexpr double kRoot[16] = {0x1.95cb40fabf002p+0, 0x1.a7c28ef38da9dp+0, 0x1.ba857dd8f54ebp+0, 0x1.ce1d119cca6cbp+0,
                                       0x1.e292b45f544edp+0, 0x1.f7f03af56f375p+0, 0x1.071ff4d0fa766p+1, 0x1.12c63c825868fp+1,
                                       0x1.1ef08da09f354p+1, 0x1.2ba4c0b026075p+1, 0x1.38e8f076ebcdcp+1, 0x1.46c37ceb8c201p+1,
                                       0x1.553b0e45738d6p+1, 0x1.6456982fcc290p+1, 0x1.741d5d20abd8dp+1, 0x1.8496f1d61f55cp+1};
  alignas(64) std::int64_t entry[16];
  constexpr DoubleRoots() : entry{} {
    for (int j = 0; j < 16; ++j) entry[j] = __builtin_bit_cast(std::int64_t, kRoot[j]) - (std::int64_t(j) << 48);
  }
};
inline constexpr DoubleRoots kDoubleRoots{};

template <>
struct QuotientRoots<double> : Roots<double> {
  static constexpr double factor = DoubleRoots::kRoot[0];
  QuotientRoots() : Roots(kDoubleRoots.entry) {}
};

#endif

// Roots for quotients that are rounded to 16 bits, where 2 10^-6 of an exponential do not show. All terms of a quotient are near
// each other, or 0: what rounding takes from log 2, they lose together.
struct HalfRoots : QuotientRoots<float> {
  static constexpr bool rough = true;
#if defined(__AVX512F__)
  static constexpr float polynomial[1] = {0.5f};
#elif defined(__AVX2__)
  static constexpr float polynomial[2] = {0.5f, 0x1.555556p-3f};
#endif
};

// exp(x) 2^-reference times R::factor, which quotients do not see; the reference an integer of at most 2^17 (2^48 in
// double).
//
//   N = round(x 2^bits / log 2),  r = x - N log 2 / 2^bits,  exp(x) = 2^(N / 2^bits) (1 + (r + r^2 P(r)))
//
// For results below 2^96 (2^960). A result below 2^lowest, -120 (-1000) where not given, also that of -inf, is 0: products that
// are subnormal take some processors five times as long. NaN gives NaN. A change of the reference changes the results by a power
// of two exactly.
template <class T, class R = Roots<T>>
class ScaledExp {
  using L = Lanes<T>;
  static constexpr T kMagic = core::Format<T>::round_magic / T(1 << R::bits);

 public:
  static constexpr T kLowest = sizeof(T) == 4 ? T(-120) : T(-1000);
  explicit ScaledExp(T reference, T lowest = kLowest)
      : magic_(kMagic - reference), low_((reference + lowest) * core::kLn2High<T>) {}
  explicit ScaledExp(L reference, T lowest = kLowest)  // one a lane
      : magic_(L(kMagic) - reference), low_((reference + L(lowest)) * L(core::kLn2High<T>)) {}
  L operator()(L x) const {
    L root;
    const L r = reduced(x, root);
    return fmadd_where(not_less(x, low_), r, root, root);
  }
  // And what rounding takes from it.
  L operator()(L x, L& low) const {
    L root;
    const auto counts = not_less(x, low_);
    const L r = reduced(x, root), e = fmadd_where(counts, r, root, root);
    low = fmadd_where(counts, r, root, root - e);
    return e;
  }

 private:
  // exp(r) - 1.
  L reduced(L x, L& root) const {
    const L z = fmadd(x, L(core::kLog2E<T>), magic_), n = z - magic_;
    L r = fmadd(n, L(-core::kLn2High<T>), x);
    if constexpr (!requires { R::rough; }) r = fmadd(n, L(-core::kLn2Low<T>), r);
    root = roots_(z);
    return fmadd(r * r, core::polynomial<R::polynomial>(r), r);
  }
  L magic_, low_;
  R roots_;
};

// For quotients that are stored as S.
template <class S>
using QuotientExp = ScaledExp<core::Compute<S>, std::conditional_t<sizeof(S) == 2, HalfRoots, QuotientRoots<core::Compute<S>>>>;

}  // namespace softmap::cpu
