#include "core/link.h"
#include "cpu/lanes.h"
#include "cpu/neighbours.h"
#include "cpu/parallel.h"
#include "graph.h"

namespace softmap::cpu {
namespace {

using L = Lanes<double>;

constexpr Index kItems = 1024;   // of a chunk: sums over chunks are added in order
constexpr int kAtOnce = 512;     // meetings whose terms are found together
constexpr Index kPairs = 8192;   // of a chunk of the log-likelihood
constexpr int kMostInner = 300;  // steps of conjugate gradients
constexpr int kMostHalvings = 60;

// Whom each item met, how often it won and lost: each pair twice, so that all sums are over the neighbours of an item. T: float
// where that holds all amounts exactly.
template <class T>
struct Meetings {
  // Item i was first in [starts[2 i], starts[2 i + 1]) and second up to starts[2 i + 2]; without an advantage the first range
  // has all, one entry a pair, and the second none.
  Buffer<Index> starts;
  Buffer<Node> other;
  Buffer<T> wins, losses;
};

// Wins or losses of pair e, with its share of the ties.
double amount(const PairProblem& p, int which, Index e) {
  if (p.counts[0]) return static_cast<double>(p.counts[which][e]) + p.tie_share * static_cast<double>(p.counts[2][e]);
  return p.weights[which][e] + p.tie_share * p.weights[2][e];
}

// Whether float holds all amounts, and the sum of any two: they are multiples of 1/2, and not too large.
bool fit_in_float(const PairProblem& p) {
  for (Index e = 0; e < p.n_pairs; ++e) {
    for (int which = 0; which < 2; ++which) {
      const double x = amount(p, which, e);
      if (!(x >= 0. && x <= 0x1p22 && 2. * x == static_cast<double>(static_cast<Index>(2. * x)))) return false;
    }
  }
  return true;
}

// Pairs in both directions are joined where there are many.
template <class T>
Meetings<T> meetings_of(const PairProblem& p) {
  struct Meeting {
    Node other;
    T wins, losses;
  };
  const Index n = p.n_items, m = p.n_pairs;
  Buffer<Index> ends(n + 1, 0);  // of the pairs in which each item was second, sorted by the first
  for (Index e = 0; e < m; ++e) ++ends[p.right[e] + 1];
  for (Index i = 0; i < n; ++i) ends[i + 1] += ends[i];
  Buffer<Meeting> seconds(m);
  for (Index e = 0; e < m; ++e) {
    seconds[ends[p.right[e]]++] = {static_cast<Node>(p.left[e]), static_cast<T>(amount(p, 1, e)),
                                   static_cast<T>(amount(p, 0, e))};
  }
  Meetings<T> r{Buffer<Index>(2 * n + 1, 0), Buffer<Node>(2 * m), Buffer<T>(2 * m), Buffer<T>(2 * m)};
  const auto put = [&](Index k, const Meeting& x) {
    r.other[k] = x.other;
    r.wins[k] = x.wins;
    r.losses[k] = x.losses;
  };
  const bool join = p.advantage == 0. && 8 * m > n * n;
  Index at = 0, first = 0, second = 0;
  for (Index i = 0; i < n; ++i) {
    r.starts[2 * i] = at;
    for (; first < m && p.left[first] == i; ++first) {
      Meeting x{static_cast<Node>(p.right[first]), static_cast<T>(amount(p, 0, first)), static_cast<T>(amount(p, 1, first))};
      if (join) {
        while (second < ends[i] && seconds[second].other < x.other) put(at++, seconds[second++]);
        if (second < ends[i] && seconds[second].other == x.other) {
          x.wins += seconds[second].wins;
          x.losses += seconds[second++].losses;
        }
      }
      put(at++, x);
    }
    r.starts[2 * i + 1] = at;
    while (second < ends[i]) put(at++, seconds[second++]);
    if (p.advantage == 0.) r.starts[2 * i + 1] = at;
  }
  r.starts[2 * n] = at;
  return r;
}

template <class T>
class Newton {
 public:
  Newton(const PairProblem& p, const Exec& exec)
      : p_(p),
        exec_(exec),
        n_(p.n_items),
        meetings_(meetings_of<T>(p)),
        curvature_(meetings_.starts.last()),
        room_(9 * n_),
        size_(p.n_groups, 0.),
        total_(p.n_groups),
        parts_((n_ + kItems - 1) / kItems) {
    double** const vectors[] = {&mark_, &first_mark_, &gradient_, &inverse_, &step_, &r_, &direction_, &q_};
    for (int k = 0; k < 8; ++k) *vectors[k] = room_.data() + k * n_;
    narrow_ = reinterpret_cast<float*>(room_.data() + 8 * n_);
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
      if (!find_step(core::min(0.1, core::max(wanted, 0.05 * options.tol / expected)))) return result(theta, k - 1, false);
      before = now;
      largest = 0.;
      double slope = dot(gradient_, step_);
      for (Index i = 0; i < n_; ++i) largest = core::max(largest, core::abs(step_[i]));
      double highest = 1.;
      for (Index i = 0; i < n_; ++i) highest = core::max(highest, core::abs(options.mean + theta[i] + step_[i]));
      if (1.1 * largest <= options.tol * highest) {  // what is left of the gradient is what the step leaves of it
        for (Index i = 0; i < n_; ++i) {
          theta[i] += step_[i];
          gradient_[i] = p_.free[i] ? r_[i] : 0.;
        }
        return result(theta, k, true);
      }
      for (int halvings = 0;; ++halvings) {
        for (Index i = 0; i < n_; ++i) theta[i] += step_[i];
        evaluate(theta);
        // the objective is concave: beyond its maximum along the step it falls, less steeply than it rose where the step was good
        if (dot(gradient_, step_) >= -0.25 * slope) break;
        if (halvings == kMostHalvings) return result(theta, k, false);
        for (Index i = 0; i < n_; ++i) {
          theta[i] -= step_[i];
          step_[i] *= 0.5;
        }
        slope *= 0.5;
      }
    }
    return result(theta, options.most_steps, false);
  }

 private:
  NewtonResult result(const double* theta, int n_steps, bool converged) {
    const double value = p_.link == LinkKind::kLogit ? log_likelihood<core::Logit>(theta) : log_likelihood<core::Probit>(theta);
    for (Index i = 0; i < n_; ++i) p_.gradient[i] = gradient_[i];
    return {n_steps, converged, value};
  }
  template <class Link>
  double log_likelihood(const double* theta) {
    Buffer<double> parts((p_.n_pairs + kPairs - 1) / kPairs);
    parallel_for(exec_, p_.n_pairs, kPairs, p_.n_pairs, [&](Index first, Index last, int) {
      for (Index start = first; start < last; start += kPairs) {
        L sum(0.);
        const Index end = start + kPairs < last ? start + kPairs : last;
        for (Index e = start; e < end; e += kAtOnce) {
          const int count = until(end - e, kAtOnce);
          double d[kAtOnce], w[kAtOnce], l[kAtOnce];
          for (int k = 0; k < count; ++k) d[k] = theta[p_.left[e + k]] - theta[p_.right[e + k]] + p_.advantage;
          for (int k = 0; k < count; ++k) w[k] = amount(p_, 0, e + k);
          for (int k = 0; k < count; ++k) l[k] = amount(p_, 1, e + k);
          for (int k = 0; k < count; k += L::size) {
            const int n = until(count - k, L::size);
            const auto logs = Link::log_probabilities(L::load(d + k, n, 0.));
            sum = sum + (L::load(w + k, n, 0.) * logs.win + L::load(l + k, n, 0.) * logs.loss);
          }
        }
        parts[start / kPairs] = total_of(sum);
      }
    });
    double all = 0.;
    for (Index k = 0; k < parts.size(); ++k) all += parts[k];
    return all;
  }
  static double total_of(L x) {
    double at[L::size], sum = 0.;
    x.store(at);
    for (int k = 0; k < L::size; ++k) sum += at[k];
    return sum;
  }

  // body(i) for every item; returns the sum of what it returns: four sums of a chunk, so that none waits for the one before.
  template <class Body>
  double sum(Body&& body, Index work = 1) {
    parallel_for(exec_, n_, kItems, n_ * work, [&](Index first, Index last, int) {
      for (Index start = first; start < last; start += kItems) {
        const Index end = start + kItems < last ? start + kItems : last;
        double part[4] = {0., 0., 0., 0.};
        Index i = start;
        for (; i + 4 <= end; i += 4) {
          for (int k = 0; k < 4; ++k) part[k] += body(i + k);
        }
        for (; i < end; ++i) part[0] += body(i);
        parts_[start / kItems] = (part[0] + part[1]) + (part[2] + part[3]);
      }
    });
    double all = 0.;
    for (Index k = 0; k < parts_.size(); ++k) all += parts_[k];
    return all;
  }
  double dot(const double* a, const double* b) {
    return sum([&](Index i) { return a[i] * b[i]; });
  }
  double size_of_gradient() { return __builtin_sqrt(dot(gradient_, gradient_)); }

  void evaluate(const double* theta) {
    if (p_.link == LinkKind::kLogit) return evaluate_link<core::Logit>(theta);
    evaluate_link<core::Probit>(theta);
  }
  // The gradient, the curvature of each meeting, and the inverse diagonal of minus the Hessian.
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
    parallel_for(exec_, n_, kItems, curvature_.size(), [&](Index first, Index last, int) {
      for (Index start = first; start < last; start += kItems) {  // the same sums whoever does how much
        const Index end = start + kItems < last ? start + kItems : last;
        near ? slopes<Link, true>(theta, start, end) : slopes<Link, false>(theta, start, end);
      }
    });
  }
  // For the items [first, last).
  template <class Link, bool near>
  void slopes(const double* theta, Index first, Index last) {
    const Buffer<Index>& starts = meetings_.starts;
    const Index end = starts[2 * last];
    double mine[kAtOnce], other[kAtOnce], slope[kAtOnce], bend[kAtOnce], by_i = 0., bend_i = 0.;
    Index range = 2 * first, i = first;
    for (Index begin = starts[range]; begin < end; begin += kAtOnce) {
      const int count = static_cast<int>(end - begin < kAtOnce ? end - begin : kAtOnce);
      for (int k = 0; k < count;) {
        while (begin + k >= starts[range + 1]) ++range;
        const bool leads = range % 2 == 0;
        const double my_mark = (leads ? first_mark_ : mark_)[range / 2];
        const double* const marks = leads ? mark_ : first_mark_;
        for (const int stop = until(starts[range + 1] - begin, count); k < stop; ++k) {
          mine[k] = my_mark;
          other[k] = marks[meetings_.other[begin + k]];
        }
      }
      terms<Link, near>(begin, count, mine, other, slope, bend);
      for (int k = 0; k < count;) {
        for (; begin + k >= starts[2 * i + 2]; ++i, by_i = bend_i = 0.) finish(theta, i, by_i, bend_i);
        const int stop = until(starts[2 * i + 2] - begin, count);
        for (; k + 4 <= stop; k += 4) {
          by_i += (slope[k] + slope[k + 1]) + (slope[k + 2] + slope[k + 3]);
          bend_i += (bend[k] + bend[k + 1]) + (bend[k + 2] + bend[k + 3]);
        }
        for (; k < stop; ++k) {
          by_i += slope[k];
          bend_i += bend[k];
        }
      }
    }
    for (; i < last; ++i, by_i = bend_i = 0.) finish(theta, i, by_i, bend_i);
  }
  static int until(Index stop, int count) { return stop < count ? static_cast<int>(stop) : count; }
  void finish(const double* theta, Index i, double slope, double bend) {
    bend += p_.precision;
    gradient_[i] = p_.free[i] ? slope - p_.precision * theta[i] : 0.;
    inverse_[i] = p_.free[i] && bend > 0. ? 1. / bend : 0.;
  }
  template <class Link, bool near>
  void terms(Index begin, int count, const double* mine, const double* other, double* slope, double* bend) {
    double wins[kAtOnce], losses[kAtOnce];
    for (int k = 0; k < count; ++k) wins[k] = static_cast<double>(meetings_.wins[begin + k]);
    for (int k = 0; k < count; ++k) losses[k] = static_cast<double>(meetings_.losses[begin + k]);
    for (int k = 0; k < count; k += L::size) {
      const int n = count - k < L::size ? count - k : L::size;
      const L a = L::load(mine + k, n, 1.), b = L::load(other + k, n, 1.);
      const L w = L::load(wins + k, n, 0.), l = L::load(losses + k, n, 0.);
      core::LinkSlopes<L> s;
      if constexpr (near) {
        s = Link::slopes_between(a, b);
      } else {
        s = Link::slopes(a - b);
      }
      fmadd(w, s.win, -(l * s.loss)).store(slope + k, n);
      (w * s.win_curve + l * s.loss_curve).store(bend + k, n);  // the same from both sides
    }
    for (int k = 0; k < count; ++k) curvature_[begin + k] = static_cast<float>(bend[k]);
  }

  void turn(Index i, double to) {
    direction_[i] = to;
    narrow_[i] = static_cast<float>(to);
  }
  // q = H direction, H minus the Hessian; returns direction' q. Curvatures and direction have 24 bits here, as all of it is read
  // out of order: what that is off, the next step of Newton takes back.
  double times_hessian() {
    const float *const x = narrow_, *const weight = curvature_.data();
    const Node* const other = meetings_.other.data();
    return sum(
        [&](Index i) {
          const double mine = static_cast<double>(x[i]);
          const double flow =
              row_sum(i, [&](Index k) { return static_cast<double>(weight[k]) * (mine - static_cast<double>(x[other[k]])); });
          q_[i] = p_.precision * direction_[i] + flow;
          return q_[i] * direction_[i];
        },
        1 + curvature_.size() / n_);
  }
  // The sum of body(k) over the meetings of item i, four at a time.
  template <class Body>
  double row_sum(Index i, Body&& body) {
    const Index end = meetings_.starts[2 * i + 2];
    Index k = meetings_.starts[2 * i];
    double part[4] = {0., 0., 0., 0.};
    for (; k + 4 <= end; k += 4) {
      for (int j = 0; j < 4; ++j) part[j] += body(k + j);
    }
    for (; k < end; ++k) part[0] += body(k);
    return (part[0] + part[1]) + (part[2] + part[3]);
  }

  // step = H^-1 gradient up to shifts of floating groups, which it does not have; returns whether that was reached.
  bool find_step(double rtol) {
    double rho = sum([&](Index i) {
      step_[i] = 0.;
      r_[i] = gradient_[i];
      turn(i, inverse_[i] * r_[i]);
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
        turn(i, inverse_[i] * r_[i] + keep * direction_[i]);
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
  Meetings<T> meetings_;
  Buffer<float> curvature_;
  Buffer<double> room_;  // of the vectors
  double *mark_, *first_mark_, *gradient_, *inverse_, *step_, *r_, *direction_, *q_;
  float* narrow_;  // the direction
  Buffer<double> size_, total_, parts_;
};

}  // namespace

NewtonResult newton_pairs(const PairProblem& problem, const NewtonOptions& options, double* theta, const Exec& exec) {
  if (fit_in_float(problem)) return Newton<float>(problem, exec).run(options, theta);
  return Newton<double>(problem, exec).run(options, theta);
}

}  // namespace softmap::cpu
