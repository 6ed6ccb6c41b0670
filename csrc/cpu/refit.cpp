// Newton's method for many counts of the same cells, a data set a lane. Steps are found by conjugate gradients with the inverse
// of one Hessian for all, from which those of resampled data differ little.
#include "core/link.h"
#include "core/ties.h"
#include "cpu/lanes.h"
#include "cpu/neighbours.h"
#include "cpu/parallel.h"
#include "resample.h"

namespace softmap::cpu {
namespace {

using L = Lanes<double>;
using Bits = Mask<double>;
constexpr int W = L::size;

// Newton's steps shrink by about their own size: after one of kLastStep, found to kExact of it, less than 1e-8 is left.
constexpr double kLastStep = 3e-5, kExact = 1e-4, kRough = 0.03;
constexpr int kMostSteps = 20, kMostInner = 60, kMostHalvings = 8;

L zero() { return L(0.); }
L where(Bits m, L x) { return select(m, x, zero()); }

template <class T>
class Block {
 public:
  static Index room(const Refits& in) { return (9 * in.size() + (3 + 2) * in.n_cells) * W; }

  Block(const Refits& in, const Buffer<Index>& starts, double* room)
      : in_(in), starts_(starts), n_(in.n_items), size_(in.size()) {
    double* at = room;
    const auto take = [&](Index count) {
      double* const p = at;
      at += count * W;
      return p;
    };
    for (double** p : {&theta_, &gradient_, &step_, &r_, &z_, &p_, &q_, &mark_, &first_mark_}) *p = take(size_);
    for (double** p : {&wins_, &losses_, &ties_, &dd_, &dt_}) *p = take(in.n_cells);
  }

  // Data sets [first, first + count).
  void run(const T* counts, Index first, int count, double* theta, std::uint8_t* done) {
    read(counts, first, count);
    for (Index i = 0; i < size_; ++i) L(in_.start[i]).store(theta_ + i * W);
    const Bits settled = newton();
    double flags[W];
    where(settled, L(1.)).store(flags);
    for (int k = 0; k < count; ++k) {
      done[first + k] = flags[k] > 0.;
      for (Index i = 0; i < size_; ++i) theta[(first + k) * size_ + i] = theta_[i * W + k];
    }
  }

 private:
  static L at(const double* p, Index i) { return L::load(p + i * W); }

  // Lanes beyond `count` repeat the first one.
  void read(const T* counts, Index first, int count) {
    const Index m = in_.n_cells;
    const auto column = [&](int kind, Index c, double* to) {
      constexpr Index kAhead = 16;  // cells, which are far from each other
      const T* const p = counts + (kind * m + c) * in_.n_sets + first;
      if (c + kAhead < m) __builtin_prefetch(p + kAhead * in_.n_sets);
      if (count == W) {
        for (int k = 0; k < W; ++k) to[k] = static_cast<double>(p[k]);
      } else {
        for (int k = 0; k < W; ++k) to[k] = static_cast<double>(p[k < count ? k : 0]);
      }
    };
    for (Index c = 0; c < m; ++c) {
      double *const w = wins_ + c * W, *const l = losses_ + c * W, *const t = ties_ + c * W;
      column(0, c, w);
      column(1, c, l);
      column(2, c, t);
      if (in_.with_ties) continue;
      const L share = L(in_.tie_share) * L::load(t);
      (L::load(w) + share).store(w);
      (L::load(l) + share).store(l);
    }
  }

  L advantage(const double* x) const { return in_.advantage_estimated ? at(x, n_) : L(in_.advantage); }

  // The gradient at x, and what the Hessian is made of.
  void evaluate(const double* x) {
    for (Index i = 0; i < size_; ++i) (i < n_ ? L(-in_.precision) * at(x, i) : zero()).store(gradient_ + i * W);
    tt_ = zero();
    if (in_.with_ties) {
      if (in_.model.kind == TieKind::kDavidson) return outcomes<core::Davidson>(x);
      if (in_.model.kind == TieKind::kRaoKupper) return outcomes<core::RaoKupper>(x);
      return outcomes<core::NormalThreshold>(x);
    }
    if (in_.link == LinkKind::kLogit) return links<core::Logit>(x);
    links<core::Probit>(x);
  }

  // slope_of(i, j, c) for each cell c of i and j, which also stores dd.
  template <class Slope>
  void add_slopes(Slope&& slope_of) {
    L all_sum = zero();
    for (Index i = 0; i < n_; ++i) {
      L sum = zero();
      for (Index c = starts_[i]; c < starts_[i + 1]; ++c) {
        const Index j = in_.right[c];
        const L slope = slope_of(i, j, c);
        sum = sum + slope;
        (at(gradient_, j) - slope).store(gradient_ + j * W);
      }
      (at(gradient_, i) + sum).store(gradient_ + i * W);
      all_sum = all_sum + sum;
    }
    if (in_.advantage_estimated) all_sum.store(gradient_ + n_ * W);
  }

  template <class Link>
  void links(const double* x) {
    const L ahead = advantage(x);
    L largest = zero();
    for (Index i = 0; i < n_; ++i) largest = max(largest, max(abs(at(x, i)), abs(at(x, i) + ahead)));
    const auto slope = [&](Index c, const core::LinkSlopes<L>& s) {
      const L w = at(wins_, c), l = at(losses_, c);
      fmadd(w, s.win_curve, l * s.loss_curve).store(dd_ + c * W);
      return fmadd(w, s.win, -(l * s.loss));
    };
    if (!all(largest <= L(Link::kReach))) {
      return add_slopes([&](Index i, Index j, Index c) { return slope(c, Link::slopes(at(x, i) - at(x, j) + ahead)); });
    }
    for (Index i = 0; i < n_; ++i) {
      Link::mark(at(x, i)).store(mark_ + i * W);
      Link::mark(at(x, i) + ahead).store(first_mark_ + i * W);
    }
    add_slopes([&](Index i, Index j, Index c) { return slope(c, Link::slopes_between(at(first_mark_, i), at(mark_, j))); });
  }

  template <class Model>
  void outcomes(const double* x) {
    const L ahead = advantage(x), t = in_.tie_estimated ? at(x, size_ - 1) : L(in_.model.t);
    L by_t = zero();
    add_slopes([&](Index i, Index j, Index c) {
      const auto s = Model::slopes(at(x, i) - at(x, j) + ahead, t);
      const L w = at(wins_, c), l = at(losses_, c), e = at(ties_, c);
      const auto sum = [&](L win, L loss, L tie) {
        return (where(zero() < w, w * win) + where(zero() < l, l * loss)) + where(zero() < e, e * tie);
      };
      sum(s.win.dd, s.loss.dd, s.tie.dd).store(dd_ + c * W);
      if (in_.tie_estimated) {
        sum(s.win.dt, s.loss.dt, s.tie.dt).store(dt_ + c * W);
        tt_ = tt_ + sum(s.win.tt, s.loss.tt, s.tie.tt);
        by_t = by_t + sum(s.win.t, s.loss.t, s.tie.t);
      }
      return sum(s.win.d, s.loss.d, s.tie.d);
    });
    if (in_.tie_estimated) by_t.store(gradient_ + (size_ - 1) * W);
  }

  // q = H p, H minus the Hessian where `evaluate` was; returns p' q.
  L times_hessian() {
    const L ahead = in_.advantage_estimated ? at(p_, n_) : zero(), t = in_.tie_estimated ? at(p_, size_ - 1) : zero();
    for (Index i = 0; i < n_; ++i) (L(in_.precision) * at(p_, i)).store(q_ + i * W);
    L all_flow = zero(), by_t = tt_ * t;
    for (Index i = 0; i < n_; ++i) {
      const L mine = at(p_, i) + ahead;
      L sum = zero();
      for (Index c = starts_[i]; c < starts_[i + 1]; ++c) {
        const Index j = in_.right[c];
        const L d = mine - at(p_, j);
        L flow = at(dd_, c) * d;
        if (in_.tie_estimated) {
          flow = fmadd(at(dt_, c), t, flow);
          by_t = fmadd(at(dt_, c), d, by_t);
        }
        sum = sum + flow;
        (at(q_, j) - flow).store(q_ + j * W);
      }
      (at(q_, i) + sum).store(q_ + i * W);
      all_flow = all_flow + sum;
    }
    if (in_.advantage_estimated) all_flow.store(q_ + n_ * W);
    if (in_.tie_estimated) by_t.store(q_ + (size_ - 1) * W);
    return dot(p_, q_);
  }

  L dot(const double* a, const double* b) const {
    L sum = zero();
    for (Index i = 0; i < size_; ++i) sum = fmadd(at(a, i), at(b, i), sum);
    return sum;
  }

  // z = inverse r; returns r' z.
  L precondition() {
    const double* const inverse = in_.inverse;
    Index i = 0;
    for (; i + 4 <= size_; i += 4) {
      L sum[4] = {zero(), zero(), zero(), zero()};
      const double* const row = inverse + i * size_;
      for (Index j = 0; j < size_; ++j) {
        const L x = at(r_, j);
        for (int k = 0; k < 4; ++k) sum[k] = fmadd(L(row[k * size_ + j]), x, sum[k]);
      }
      for (int k = 0; k < 4; ++k) sum[k].store(z_ + (i + k) * W);
    }
    for (; i < size_; ++i) {
      L sum = zero();
      for (Index j = 0; j < size_; ++j) sum = fmadd(L(inverse[i * size_ + j]), at(r_, j), sum);
      sum.store(z_ + i * W);
    }
    return dot(r_, z_);
  }

  // The step H^-1 gradient, each lane to its rtol; returns where that was reached.
  Bits find_step(L rtol) {
    for (Index i = 0; i < size_; ++i) {
      at(gradient_, i).store(r_ + i * W);
      zero().store(step_ + i * W);
    }
    L rho = precondition();
    const L enough = rtol * rtol * rho;
    for (Index i = 0; i < size_; ++i) at(z_, i).store(p_ + i * W);
    auto active = enough < rho;
    for (int k = 0; k < kMostInner && any(active); ++k) {
      const L bend = times_hessian();
      active = active & (zero() < bend);
      const L length = where(active, rho / bend);
      for (Index i = 0; i < size_; ++i) {
        fmadd(length, at(p_, i), at(step_, i)).store(step_ + i * W);
        fmadd(-length, at(q_, i), at(r_, i)).store(r_ + i * W);
      }
      const L next = precondition(), keep = where(active, next / rho);
      for (Index i = 0; i < size_; ++i) fmadd(keep, at(p_, i), at(z_, i)).store(p_ + i * W);
      rho = select(active, next, rho);
      active = active & (enough < rho);
    }
    return rho <= enough;
  }

  // A parameter that must stay positive is at least a quarter of itself after a step.
  void shorten_ties() {
    if (!in_.tie_estimated || in_.model.kind == TieKind::kDavidson) return;
    const L t = at(theta_, size_ - 1), change = at(step_, size_ - 1), least = L(-0.75) * t;
    const L share = select(change < least, least / change, L(1.));
    for (Index i = 0; i < size_; ++i) (share * at(step_, i)).store(step_ + i * W);
  }

  Bits newton() {
    const L one(1.);
    Bits settled = one < zero(), lost = settled;
    L largest = one;
    evaluate(theta_);
    for (int k = 0; k < kMostSteps; ++k) {
      const L rtol = max(L(kExact), min(L(kRough), L(0.1) * largest));
      const Bits found = find_step(rtol);
      shorten_ties();
      largest = zero();
      for (Index i = 0; i < size_; ++i) largest = max(largest, abs(at(step_, i)));
      const L slope = dot(gradient_, step_);
      const Bits last = found & (largest <= L(kLastStep)) & (rtol <= L(kExact));
      lost = lost | (!settled & !(largest < L(1e6)));  // NaN too
      const Bits moving = !(settled | lost);
      move(moving, one);
      settled = settled | (last & moving);
      if (all(settled | lost)) return settled;
      const Bits fell = moving & !settled;
      evaluate(theta_);
      lost = lost | backtrack(fell, slope);
    }
    return settled;
  }

  // theta += share * step in these lanes.
  void move(Bits lanes, L share) {
    for (Index i = 0; i < size_; ++i) {
      const L x = at(theta_, i);
      select(lanes, fmadd(share, at(step_, i), x), x).store(theta_ + i * W);
    }
  }

  // Halves the step where the objective, which is concave, rises backwards more than half as steeply as it rose forwards. Returns
  // where that did not help.
  Bits backtrack(Bits lanes, L slope) {
    L share(1.);
    for (int k = 0; k < kMostHalvings; ++k) {
      lanes = lanes & (dot(gradient_, step_) < L(-0.5) * slope);
      if (!any(lanes)) return lanes;
      share = L(0.5) * share;
      move(lanes, -share);
      evaluate(theta_);
    }
    return lanes;
  }

  const Refits& in_;
  const Buffer<Index>& starts_;
  Index n_, size_;
  L tt_;
  double *theta_, *gradient_, *step_, *r_, *z_, *p_, *q_, *mark_, *first_mark_;
  double *wins_, *losses_, *ties_, *dd_, *dt_;
};

}  // namespace

template <class T>
void refit(const Refits& in, const T* counts, double* theta, std::uint8_t* done, const Exec& exec) {
  Buffer<Index> starts(in.n_items + 1, 0);
  for (Index c = 0; c < in.n_cells; ++c) ++starts[in.left[c] + 1];
  for (Index i = 0; i < in.n_items; ++i) starts[i + 1] += starts[i];
  const Index work = in.n_sets * in.n_cells * 64;
  const Scratch<double> rooms(slots_for(exec, in.n_sets, W, work), Block<T>::room(in));
  parallel_for(exec, in.n_sets, W, work, [&](Index first, Index last, int slot) {
    Block<T> block(in, starts, rooms[slot]);
    for (Index k = first; k < last; k += W) block.run(counts, k, static_cast<int>(last - k < W ? last - k : W), theta, done);
  });
}

template void refit(const Refits&, const std::int32_t*, double*, std::uint8_t*, const Exec&);
template void refit(const Refits&, const double*, double*, std::uint8_t*, const Exec&);

}  // namespace softmap::cpu
