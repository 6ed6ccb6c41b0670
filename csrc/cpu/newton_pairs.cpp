#include "core/link.h"
#include "cpu/lanes.h"
#include "cpu/neighbours.h"
#include "cpu/parallel.h"
#include "graph.h"

namespace softmap::cpu {
namespace {

using L = Lanes<double>;

constexpr Index kItems = 1024;   // of a chunk: sums over chunks are added in order
constexpr int kSlices = 8;       // of the pairs: each has sums of its own, which are added in order
constexpr int kAtOnce = 512;     // pairs whose terms are found together
constexpr int kMostInner = 300;  // steps of conjugate gradients
constexpr int kMostHalvings = 60;

class Newton {
 public:
  Newton(const PairProblem& p, const Exec& exec)
      : p_(p),
        exec_(exec),
        n_(p.n_items),
        starts_(n_ + 1, 0),
        right_(p.n_pairs),
        curvature_(p.n_pairs),
        mark_(n_),
        first_mark_(n_),
        gradient_(n_),
        inverse_(n_),
        step_(n_),
        r_(n_),
        direction_(n_),
        q_(n_),
        size_(p.n_groups, 0.),
        total_(p.n_groups),
        parts_((n_ + kItems - 1) / kItems),
        flow_(kSlices * n_, 0.),
        bend_(kSlices * n_, 0.) {
    for (Index e = 0; e < p.n_pairs; ++e) {
      ++starts_[p.left[e] + 1];
      right_[e] = static_cast<Node>(p.right[e]);
    }
    for (Index i = 0, slice = 0; i < n_; ++i) {
      starts_[i + 1] += starts_[i];
      for (; slice <= kSlices && starts_[i + 1] * kSlices >= slice * p.n_pairs; ++slice) rows_[slice] = i;
    }
    rows_[0] = 0;
    rows_[kSlices] = n_;
    for (Index i = 0; i < n_; ++i) size_[p.group[i]] += 1.;
  }

  NewtonResult run(const NewtonOptions& options, double* theta) {
    evaluate(theta);
    const double least = 1e-300, first = core::max(least, size_of_gradient());
    double before = first, largest = 1.;
    for (int k = 1; k <= options.most_steps; ++k) {
      // The nearer to the maximum, the more exactly: steps converge faster than linearly. No digits beyond tol.
      const double now = size_of_gradient(), expected = core::max(least, largest * now / core::max(least, before));
      const double wanted = 0.1 * core::min(1., core::max(1e-7, now / first));
      if (!find_step(core::min(0.1, core::max(wanted, 0.05 * options.tol / expected)))) return {k - 1, false};
      before = now;
      largest = 0.;
      double slope = dot(gradient_, step_);
      for (Index i = 0; i < n_; ++i) largest = core::max(largest, core::abs(step_[i]));
      for (int halvings = 0;; ++halvings) {
        for (Index i = 0; i < n_; ++i) theta[i] += step_[i];
        evaluate(theta);
        // the objective is concave: beyond its maximum along the step it falls, less steeply than it rose where the step was good
        if (dot(gradient_, step_) >= -0.25 * slope) break;
        if (halvings == kMostHalvings) return {k, false};
        for (Index i = 0; i < n_; ++i) {
          theta[i] -= step_[i];
          step_[i] *= 0.5;
        }
        slope *= 0.5;
      }
      double highest = 1.;
      for (Index i = 0; i < n_; ++i) highest = core::max(highest, core::abs(options.mean + theta[i]));
      if (1.1 * largest <= options.tol * highest) return {k, true};
    }
    return {options.most_steps, false};
  }

 private:
  // body(i) for every item; returns the sum of what it returns.
  template <class Body>
  double sum(Body&& body) {
    parallel_for(exec_, n_, kItems, n_, [&](Index first, Index last, int) {
      for (Index start = first; start < last; start += kItems) {
        double part = 0.;
        for (Index i = start; i < (start + kItems < last ? start + kItems : last); ++i) part += body(i);
        parts_[start / kItems] = part;
      }
    });
    double all = 0.;
    for (Index k = 0; k < parts_.size(); ++k) all += parts_[k];
    return all;
  }
  double dot(const Buffer<double>& a, const Buffer<double>& b) {
    return sum([&](Index i) { return a[i] * b[i]; });
  }
  double size_of_gradient() { return __builtin_sqrt(dot(gradient_, gradient_)); }

  // body(slice, first row, last row): at once.
  template <class Body>
  void for_slices(Body&& body) {
    parallel_for(exec_, kSlices, 1, p_.n_pairs, [&](Index first, Index last, int) {
      for (Index slice = first; slice < last; ++slice) body(slice * n_, rows_[slice], rows_[slice + 1]);
    });
  }
  // The sum over the slices at item i, which is then 0 again.
  double collect(Buffer<double>& sums, Index i) {
    double all = 0.;
    for (int slice = 0; slice < kSlices; ++slice) {
      all += sums[slice * n_ + i];
      sums[slice * n_ + i] = 0.;
    }
    return all;
  }

  void evaluate(const double* theta) {
    if (p_.link == LinkKind::kLogit) return evaluate_link<core::Logit>(theta);
    evaluate_link<core::Probit>(theta);
  }
  // The gradient, the curvature of each pair, and the inverse diagonal of minus the Hessian.
  template <class Link>
  void evaluate_link(const double* theta) {
    const double ahead = p_.advantage;
    double largest = 0.;
    for (Index i = 0; i < n_; ++i) largest = core::max(largest, core::abs(theta[i]));
    const bool near = largest + core::abs(ahead) <= Link::kReach;
    for (Index i = 0; i < n_; i += L::size) {
      const int count = static_cast<int>(n_ - i < L::size ? n_ - i : L::size);
      const L x = L::load(theta + i, count, 0.), first = x + L(ahead);
      (near ? Link::mark(x) : x).store(&mark_[i], count);
      (near ? Link::mark(first) : first).store(&first_mark_[i], count);
    }
    for_slices([&](Index slice, Index first, Index last) {
      near ? rows<Link, true>(slice, first, last) : rows<Link, false>(slice, first, last);
    });
    sum([&](Index i) {
      const double by_i = collect(flow_, i), bend = collect(bend_, i) + p_.precision;
      gradient_[i] = p_.free[i] ? by_i - p_.precision * theta[i] : 0.;
      inverse_[i] = p_.free[i] && bend > 0. ? 1. / bend : 0.;
      return 0.;
    });
  }
  template <class Link, bool near>
  void rows(Index slice, Index first, Index last) {
    double *const flow = &flow_[slice], *const bend = &bend_[slice];
    double mine[kAtOnce], other[kAtOnce], slope[kAtOnce];
    Index i = first;
    for (Index begin = starts_[first]; begin < starts_[last]; begin += kAtOnce) {
      const int count = static_cast<int>(starts_[last] - begin < kAtOnce ? starts_[last] - begin : kAtOnce);
      Index owner = i;
      for (int k = 0; k < count; ++k) {
        while (begin + k >= starts_[owner + 1]) ++owner;
        mine[k] = first_mark_[owner];
        other[k] = mark_[right_[begin + k]];
      }
      terms<Link, near>(begin, count, mine, other, slope);
      for (int k = 0; k < count;) {
        while (begin + k >= starts_[i + 1]) ++i;
        const int end = starts_[i + 1] - begin < count ? static_cast<int>(starts_[i + 1] - begin) : count;
        double by_i = 0., bend_i = 0.;
        for (; k < end; ++k) {
          const double curvature = curvature_[begin + k];
          const Node j = right_[begin + k];
          by_i += slope[k];
          bend_i += curvature;
          flow[j] -= slope[k];
          bend[j] += curvature;
        }
        flow[i] += by_i;
        bend[i] += bend_i;
      }
    }
  }
  template <class Link, bool near>
  void terms(Index begin, int count, const double* mine, const double* other, double* slope) {
    for (int k = 0; k < count; k += L::size) {
      const int n = count - k < L::size ? count - k : L::size;
      const L a = L::load(mine + k, n, 1.), b = L::load(other + k, n, 1.);
      const L w = L::load(p_.wins + begin + k, n, 0.), l = L::load(p_.losses + begin + k, n, 0.);
      core::LinkSlopes<L> s;
      if constexpr (near) {
        s = Link::slopes_between(a, b);
      } else {
        s = Link::slopes(a - b);
      }
      fmadd(w, s.win, -(l * s.loss)).store(slope + k, n);
      fmadd(w, s.win_curve, l * s.loss_curve).store(&curvature_[begin + k], n);
    }
  }

  // q = H direction, H minus the Hessian; returns direction' q.
  double times_hessian() {
    for_slices([&](Index slice, Index first, Index last) {
      double* const flow = &flow_[slice];
      for (Index i = first; i < last; ++i) {
        const double x = direction_[i];
        double mine = 0.;
        for (Index k = starts_[i]; k < starts_[i + 1]; ++k) {
          const Node j = right_[k];
          const double f = curvature_[k] * (x - direction_[j]);
          mine += f;
          flow[j] -= f;
        }
        flow[i] += mine;
      }
    });
    return sum([&](Index i) {
      q_[i] = p_.precision * direction_[i] + collect(flow_, i);
      return q_[i] * direction_[i];
    });
  }

  // step = H^-1 gradient up to shifts of floating groups, which it does not have; returns whether that was reached.
  bool find_step(double rtol) {
    double rho = sum([&](Index i) {
      step_[i] = 0.;
      r_[i] = gradient_[i];
      direction_[i] = inverse_[i] * r_[i];
      return r_[i] * direction_[i];
    });
    const double enough = rtol * rtol * rho;
    int inner = 0;
    for (; rho > enough && inner < kMostInner; ++inner) {
      const double bend = times_hessian();
      if (!(bend > 0.)) break;
      const double length = rho / bend;
      const double next = sum([&](Index i) {
        step_[i] += length * direction_[i];
        r_[i] -= length * q_[i];
        return r_[i] * r_[i] * inverse_[i];
      });
      const double keep = next / rho;
      sum([&](Index i) {
        direction_[i] = inverse_[i] * r_[i] + keep * direction_[i];
        return 0.;
      });
      rho = next;
    }
    for (Index g = 0; g < p_.n_groups; ++g) total_[g] = 0.;
    for (Index i = 0; i < n_; ++i) total_[p_.group[i]] += step_[i];
    for (Index i = 0; i < n_; ++i) {
      const Index g = p_.group[i];
      if (p_.floating[g]) step_[i] -= total_[g] / size_[g];
    }
    return rho <= enough;
  }

  const PairProblem& p_;
  const Exec& exec_;
  Index n_;
  Buffer<Index> starts_;  // of the pairs of each left item
  Buffer<Node> right_;
  Index rows_[kSlices + 1];
  Buffer<double> curvature_, mark_, first_mark_, gradient_, inverse_, step_, r_, direction_, q_, size_, total_, parts_;
  Buffer<double> flow_, bend_;  // of each slice and item
};

}  // namespace

NewtonResult newton_pairs(const PairProblem& problem, const NewtonOptions& options, double* theta, const Exec& exec) {
  return Newton(problem, exec).run(options, theta);
}

}  // namespace softmap::cpu
