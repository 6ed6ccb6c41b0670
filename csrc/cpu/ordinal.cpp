// Ordered classes from the logits of "above level k", some rows at a time in a near cache, whatever their length: registers run
// over the entries of all rows, and what differs between the entries of a row lies beside them.
#include "core/logistic.h"
#include "core/pair.h"
#include "cpu/lanes.h"
#include "cpu/pack.h"
#include "cpu/parallel.h"
#include "pairwise.h"

namespace softmap::cpu {
namespace {

constexpr Index kEntries = 1 << 10;  // of the rows taken together, or one row

// Rows taken together, of up to n + 1 entries, and room for these and a few registers more.
template <class T>
struct Piece {
  Index n_rows, room;
  explicit Piece(Index n) : n_rows(kEntries / (n + 1) + 1), room(n_rows * (n + 1) + 8 * Lanes<T>::size) {}
};

// f(place, load, store) for n entries, some registers at a time; load and store leave what is beyond as it is.
template <class T, class F>
[[gnu::flatten]] void each_entry(Index n, F&& f) {
  using L = Lanes<T>;
  using P = Pack<L, 4>;
  const auto store = [](auto v, T* p) { v.store(p); };
  Index e = 0;
  for (; e + 4 * L::size <= n; e += 4 * L::size) f(e, [](const T* p) { return P::load(p); }, store);
  for (; e + L::size <= n; e += L::size) f(e, [](const T* p) { return L::load(p); }, store);
  if (const int rest = static_cast<int>(n - e)) {
    f(e, [rest](const T* p) { return L::load(p, rest, T(0)); }, [rest](L v, T* p) { v.store(p, rest); });
  }
}

// f(register, place in the row) of n entries. Up to a register more may be written; and read, where not `exact`.
template <class T, class F>
void copy_row(const T* from, Index n, T* to, bool exact, F&& f) {
  using L = Lanes<T>;
  for (Index k = 0; k < n; k += L::size) {
    const L x = exact && n - k < L::size ? L::load(from + k, static_cast<int>(n - k), T(0)) : L::load(from + k);
    f(x, k).store(to + k);
  }
}
template <class T>
void copy_row(const T* from, Index n, T* to) {
  copy_row(from, n, to, false, [](Lanes<T> x, Index) { return x; });
}

// Probabilities: what one thread needs.
template <class T>
class Levels {
  using L = Lanes<T>;

 public:
  Levels(const OrdinalIn<T>& in, T* room) : in_(in), size_(Piece<T>(in.n).room), above_(room), reach_(room + 3 * size_) {
    for (Index e = 0, k = 0; e < size_; ++e, k = k < in.n ? k + 1 : 0) {
      place()[e] = static_cast<T>(k);
      reach_[e - size_] = T(1);
    }
  }
  static Index room(Index n) { return 6 * Piece<T>(n).room; }

  void take(Index first, Index last, T* out) {
    const Index n = in_.n, m = n + 1, size = (last - first) * m;
    const T* const z = in_.logits + first * n;
    each_entry<T>((last - first) * n, [&](Index e, auto load, auto store) {
      const auto x = load(z + e);
      const auto s = core::logistic(x);
      const auto negative = x < decltype(x)(T(0));
      store(select(negative, s.small, s.large), above_ + e);
      store(select(negative, s.large, s.small), below() + e);
    });
    // reach[k] = c[k - 1], and what the formulas need for k = 0, which for the row before is k = n + 1.
    reach_[0] = T(1);
    for (Index i = 0; i < last - first; ++i) {
      copy_row(above_ + i * n, n, reach_ + i * m + 1);
      reach_[i * m + m] = in_.conditional ? T(1) : T(0);
    }
    T* const to = out + first * m;
    if (in_.conditional) return put_products(size, to);
    each_entry<T>(size, [&](Index e, auto load, auto store) { store(load(reach_ + e) - load(reach_ + e + 1), to + e); });
    for (Index i = 0; i < last - first; ++i) to[i * m] = n > 0 ? below()[i * n] : T(1);
  }

 private:
  void put_products(Index size, T* to) {
    const Index n = in_.n, m = n + 1;
    // reach[k] becomes the product of reach[1] to reach[k]: after each step, of twice as many neighbours.
    for (Index step = 1; step < n; step *= 2) {
      const L least(static_cast<T>(step));
      for (Index e = (size - 1) / L::size * L::size; e >= 0; e -= L::size) {  // backwards: what is before is as it was
        (L::load(reach_ + e) * select(least <= L::load(place() + e), L::load(reach_ + e - step), L(T(1)))).store(reach_ + e);
      }
    }
    T* const stays = above_;  // 1 - c, and 1 at the last level
    for (Index i = 0; i < size / m; ++i) {
      copy_row(below() + i * n, n, stays + i * m);
      stays[i * m + n] = T(1);
    }
    each_entry<T>(size, [&](Index e, auto load, auto store) { store(load(reach_ + e) * load(stays + e), to + e); });
  }

  T* below() const { return above_ + size_; }
  T* place() const { return reach_ + 2 * size_; }

  const OrdinalIn<T>& in_;
  const Index size_;
  T *const above_, *const reach_;  // before reach_ there are as many ones
};

// Cross-entropies: what one thread needs. The signs of a row are a window of n times 1, then n times -1.
template <class T>
class Questions {
 public:
  Questions(const OrdinalIn<T>& in, const T* weights, T* room)
      : in_(in), size_(Piece<T>(in.n).room), terms_(room), weights_(room + size_), signs_(room + 2 * size_) {
    for (Index e = 0, k = 0; e < size_ && in.n > 0; ++e, k = k + 1 < in.n ? k + 1 : 0) weights_[e] = weights[k];
    for (Index k = 0; k < 2 * size_; ++k) signs_[k] = k < in.n ? T(1) : T(-1);
  }
  static Index room(Index n) { return 4 * Piece<T>(n).room; }

  void take(const std::int64_t* level, Index first, Index last, T* out) {
    using L = Lanes<T>;
    const Index n = in_.n;
    const T* const end = in_.logits + in_.n_rows * n;
    for (Index i = first; i < last; ++i) {
      const T* const row = in_.logits + i * n;
      const Index above = level[i] < 0 ? 0 : level[i] < n ? level[i] : n;
      const T* const signs = signs_ + (n - above);
      copy_row(row, n, terms_ + (i - first) * n, end - row < n + L::size, [&](L x, Index k) { return x * L::load(signs + k); });
    }
    each_entry<T>((last - first) * n, [&](Index e, auto load, auto store) {
      store(core::weighted(load(weights_ + e), core::log_sigmoid(load(terms_ + e))), terms_ + e);
    });
    for (Index i = first; i < last; ++i) {
      const T* const terms = terms_ + (i - first) * n;
      double sum = 0;
      for (Index k = 0; k < n; ++k) sum += static_cast<double>(terms[k]);
      out[i] = level[i] >= 0 && level[i] <= n ? static_cast<T>(-sum) : core::kNaN<T>;
    }
  }

 private:
  const OrdinalIn<T>& in_;
  const Index size_;
  T *const terms_, *const weights_, *const signs_;
};

// take(worker, first, last) for pieces of the rows, with a worker a thread, which make(room) makes.
template <class T, class Make, class Take>
void each_piece(const OrdinalIn<T>& in, Index room, const Exec& exec, Make&& make, Take&& take) {
  const Index step = Piece<T>(in.n).n_rows, chunk = 64 * step, elements = in.n_rows * (in.n + 1);
  const Scratch<T> rooms(slots_for(exec, in.n_rows, chunk, elements), room);
  parallel_for(exec, in.n_rows, chunk, elements, [&](Index begin, Index end, int slot) {
    auto worker = make(rooms[slot]);
    for (Index first = begin; first < end; first += step) take(worker, first, first + step < end ? first + step : end);
  });
}

}  // namespace

template <class T>
void ordinal_probabilities(const OrdinalIn<T>& in, T* out, const Exec& exec) {
  each_piece(
      in, Levels<T>::room(in.n), exec, [&](T* room) { return Levels<T>(in, room); },
      [&](auto& levels, Index first, Index last) { levels.take(first, last, out); });
}

template <class T>
void ordinal_cross_entropy(const OrdinalIn<T>& in, const OrdinalTarget<T>& target, T* out, const Exec& exec) {
  each_piece(
      in, Questions<T>::room(in.n), exec, [&](T* room) { return Questions<T>(in, target.weights, room); },
      [&](auto& questions, Index first, Index last) { questions.take(target.level, first, last, out); });
}

#define SOFTMAP_INSTANTIATE(T)                                               \
  template void ordinal_probabilities(const OrdinalIn<T>&, T*, const Exec&); \
  template void ordinal_cross_entropy(const OrdinalIn<T>&, const OrdinalTarget<T>&, T*, const Exec&);
SOFTMAP_INSTANTIATE(float)
SOFTMAP_INSTANTIATE(double)
#undef SOFTMAP_INSTANTIATE

}  // namespace softmap::cpu
