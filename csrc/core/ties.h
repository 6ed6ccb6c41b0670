#pragma once
// Comparisons with three outcomes: how likely a win, a loss and a tie are, given the difference d of two scores and the
// parameter t of a tie model.
//
// A tie model is a struct with static members, each over a value type V:
//   probabilities(d, t)      of win, loss and tie; they add up to 1
//   log_probabilities(d, t)  exact in the far tails
//   slopes(d, t)             derivatives of the three logarithms, which Newton's method needs
//   parts(d, t, w, l, tied)  those of w log win + l log loss + tied log tie, taken apart
// The three logarithms are concave in (d, t) together. kPositive says that t must be at least 0, kShare how much of d a margin
// of Parts has.
#include "core/link.h"

namespace softmap::core {

template <class V>
struct Outcomes {
  V win, loss, tie;
};

// Derivatives of a logarithm by d and by t, and minus the second ones.
template <class V>
struct Slopes {
  V d, t, dd, dt, tt;
};

// What a log-likelihood changes with: d, t, and the margins below = kShare d - t of a win and above = kShare d + t of a loss.
template <class V>
struct Along {
  V d, t, below, above;
};
// Its slope along each, what that may be wrong by in units of 2^-49, and the curvature: minus the second derivative is the
// sum of the squares of the four changes, each times a number >= 0. So nothing is lost where margins hardly change although d and
// t do: in the sums by d and by t, slopes and curvatures of very unequal size would cancel.
template <class V>
struct Parts {
  Along<V> slope, size, curve;
};
// By how much of the curvature rounded arguments, off by 2^-52 of |d| + |t|, shift a slope, in units of 2^-49. An infinite t has
// no part in anything.
template <class V>
SOFTMAP_HD V rounding_reach(V d, V t) {
  using T = typename lane<V>::Scalar;
  return V(T(0.125)) * min(abs(d) + abs(t), V(T(1024)));
}

template <class V>
SOFTMAP_HD Outcomes<V> mirrored_where(typename lane<V>::Mask negative, Outcomes<V> o) {
  return {select(negative, o.loss, o.win), select(negative, o.win, o.loss), o.tie};
}

// exp(x) - 1.
template <class V>
SOFTMAP_HD V expm1(V x) {
  using T = typename lane<V>::Scalar;
  const V near = fmadd(x * x, polynomial<kExp<T>>(x), x);
  return select(abs(x) < V(T(0.34)), near, exp(x) - V(T(1)));
}

// Davidson 1970, equation 2.5, with nu = exp(t):
//
//   win : loss : tie = exp(d/2) : exp(-d/2) : nu
struct Davidson {
  static constexpr bool kPositive = false;
  static constexpr double kShare = 0.5;

  // The three for |d|, divided by the largest: of 1 + rest, the largest is 1.
  template <class V>
  struct Shares {
    V win, loss, tie;              // of exp(+-|d|/2) and nu
    V log_win, log_loss, log_tie;  // their logarithms
    V rest;                        // what the sum is above 1
  };
  template <class V>
  SOFTMAP_HD static Shares<V> shares(V d, V t) {
    using T = typename lane<V>::Scalar;
    const V zero = V(T(0)), u = V(T(0.5)) * abs(d);
    V low;
    const V ahead = two_sum(t, -u, low);  // log tie - log win
    low = select(abs(ahead) < V(kInf<T>), low, zero);
    const auto tie_leads = ahead > zero;
    const V other = exp(-abs(ahead)), exact = fmadd(other, select(tie_leads, -low, low), other);
    const V log_win = select(tie_leads, -ahead, zero), log_loss = select(tie_leads, -u - t, -abs(d));
    const V loss = exp(log_loss);
    return {select(tie_leads, exact, V(T(1))), loss,        select(tie_leads, V(T(1)), exact), log_win, log_loss,
            select(tie_leads, zero, ahead),    exact + loss};
  }

  template <class V>
  SOFTMAP_HD static Outcomes<V> probabilities(V d, V t) {
    using T = typename lane<V>::Scalar;
    const auto s = shares(d, t);
    const V sum = V(T(1)) + s.rest;
    return mirrored_where(d < V(T(0)), Outcomes<V>{s.win / sum, s.loss / sum, s.tie / sum});
  }
  template <class V>
  SOFTMAP_HD static Outcomes<V> log_probabilities(V d, V t) {
    const auto s = shares(d, t);
    const V log_sum = log1p(s.rest);
    return mirrored_where(d < V(typename lane<V>::Scalar(0)),
                          Outcomes<V>{s.log_win - log_sum, s.log_loss - log_sum, s.log_tie - log_sum});
  }
  template <class V>
  SOFTMAP_HD static Outcomes<Slopes<V>> slopes(V d, V t) {
    using T = typename lane<V>::Scalar;
    const V half = V(T(0.5));
    const auto p = probabilities(d, t);
    const V decided = p.win + p.loss, lead = p.win - p.loss, half_tie = half * p.tie;
    const V dd = fmadd(p.win, p.loss, half * half_tie * decided), dt = -half_tie * lead, tt = p.tie * decided;
    return {
        {p.loss + half_tie, -p.tie, dd, dt, tt}, {-(p.win + half_tie), -p.tie, dd, dt, tt}, {-half * lead, decided, dd, dt, tt}};
  }
  // Between each two outcomes flows the difference of what one gains and the other loses.
  template <class V>
  SOFTMAP_HD static Parts<V> parts(V d, V t, V win, V loss, V tied) {
    const V zero = V(typename lane<V>::Scalar(0)), total = win + loss + tied, reach = rounding_reach(d, t);
    const auto p = probabilities(d, t);
    const V up = win * p.loss, down = loss * p.win, win_to_tie = win * p.tie, tie_to_win = tied * p.win,
            tie_to_loss = tied * p.loss, loss_to_tie = loss * p.tie;
    const V dd = total * p.win * p.loss, below = total * p.win * p.tie, above = total * p.loss * p.tie;
    return {{up - down, zero, win_to_tie - tie_to_win, tie_to_loss - loss_to_tie},
            {fmadd(reach, dd, up + down), zero, fmadd(reach, below, win_to_tie + tie_to_win),
             fmadd(reach, above, tie_to_loss + loss_to_tie)},
            {dd, zero, below, above}};
  }
};

// What the threshold models share: with F the link, win = F(d - t), loss = F(-d - t). Of a win by its margin and of a loss by
// minus its own: slope and curvature. Of a tie: slopes and curvatures.
template <class V>
struct ThresholdEdges {
  V win, win_curve, loss, loss_curve;
  Along<V> tie, tie_curve;
};
template <class V>
SOFTMAP_HD Outcomes<Slopes<V>> threshold_slopes(const ThresholdEdges<V>& e) {
  const V dd = e.tie_curve.below + e.tie_curve.above, dt = e.tie_curve.above - e.tie_curve.below;
  return {{e.win, -e.win, e.win_curve, -e.win_curve, e.win_curve},
          {-e.loss, -e.loss, e.loss_curve, e.loss_curve, e.loss_curve},
          {e.tie.d + (e.tie.below + e.tie.above), e.tie.t + (e.tie.above - e.tie.below), dd, dt, e.tie_curve.t + dd}};
}
template <class V>
SOFTMAP_HD Parts<V> threshold_parts(const ThresholdEdges<V>& e, V reach, V win, V loss, V tied) {
  const V zero = V(typename lane<V>::Scalar(0));
  const auto no_tie = tied == zero;  // its derivatives may then be infinite
  const auto of_tie = [&](V x) { return select(no_tie, zero, tied * x); };
  const auto size = [&](V slope, V tie, V curve) { return fmadd(reach, curve, slope + abs(tie)); };
  const V won = win * e.win, lost = loss * e.loss, tie_d = of_tie(e.tie.d), tie_t = of_tie(e.tie.t),
          tie_below = of_tie(e.tie.below), tie_above = of_tie(e.tie.above);
  const V tt = of_tie(e.tie_curve.t), below = fmadd(win, e.win_curve, of_tie(e.tie_curve.below)),
          above = fmadd(loss, e.loss_curve, of_tie(e.tie_curve.above));
  return {{tie_d, tie_t, won + tie_below, tie_above - lost},
          {size(zero, tie_d, zero), size(zero, tie_t, tt), size(won, tie_below, below), size(lost, tie_above, above)},
          {zero, tt, below, above}};
}

// Rao & Kupper 1967, equation 2.3, with theta = exp(t): a tie where a logistic difference is below t in size.
//
//   win = F(d - t),  loss = F(-d - t),  tie = (1 - exp(-2t)) F(t + d) F(t - d)
struct RaoKupper {
  static constexpr bool kPositive = true;
  static constexpr double kShare = 1;

  template <class V>
  SOFTMAP_HD static Outcomes<V> probabilities(V d, V t) {
    using T = typename lane<V>::Scalar;
    return {sigmoid(d - t), sigmoid(-d - t), -expm1(V(T(-2)) * t) * (sigmoid(t + d) * sigmoid(t - d))};
  }
  template <class V>
  SOFTMAP_HD static Outcomes<V> log_probabilities(V d, V t) {
    using T = typename lane<V>::Scalar;
    const auto below = Logit::log_probabilities(d - t), above = Logit::log_probabilities(d + t);
    const V t2 = V(T(-2)) * t, unequal = select(t2 < V(T(-0.69)), log1p(-exp(t2)), log(-expm1(t2)));  // log(1 - exp(-2t))
    return {below.win, above.loss, unequal + (above.win + below.loss)};
  }
  template <class V>
  SOFTMAP_HD static ThresholdEdges<V> edges(V d, V t) {
    using T = typename lane<V>::Scalar;
    const auto below = Logit::slopes(d - t), above = Logit::slopes(d + t);
    const V zero = V(T(0)), h = V(T(2)) / expm1(V(T(2)) * t);
    return {below.win,
            below.win_curve,
            above.loss,
            above.loss_curve,
            {zero, h, -below.loss, above.win},
            {zero, h * (h + V(T(2))), below.win_curve, above.win_curve}};
  }
  template <class V>
  SOFTMAP_HD static Outcomes<Slopes<V>> slopes(V d, V t) {
    return threshold_slopes(edges(d, t));
  }
  template <class V>
  SOFTMAP_HD static Parts<V> parts(V d, V t, V win, V loss, V tied) {
    return threshold_parts(edges(d, t), rounding_reach(d, t), win, loss, tied);
  }
};

// Thurstone with a threshold: a tie where a normal difference is below t in size. Glenn & David 1960.
//
//   win = Phi(d - t),  loss = Phi(-d - t),  tie = Phi(d + t) - Phi(d - t)
//
// The tie, for u = |d| >= 0, with a = u - t, b = u + t and the upper tail Q(x) = 1 - Phi(x):
//
//   t and u t below 1/4   2 t phi(u) G,   G = sum over k of t^2k He_2k(u) / (2k + 1)!      (Taylor's series of Phi about u)
//   else                  Q(a) (1 - q),   q = Q(b) / Q(a), which is then below 0.7
//
// With m the mean of a normal number between a and b, and r_a, r_b = phi(a) / tie, phi(b) / tie: the slopes of log tie by a and b
// are -r_a and r_b, hence m = r_a - r_b, and minus its second derivative is
//
//   r_a (m - a) a'^2 + r_b (b - m) b'^2 + r_a r_b (b' - a')^2
struct NormalThreshold {
  static constexpr bool kPositive = true;
  static constexpr double kShare = 1;

  template <class V>
  struct Tie {
    V value, by_u;  // G and its derivative by u
    typename lane<V>::Mask near;
    V a, b, q;
  };
  template <class V>
  SOFTMAP_HD static Tie<V> tie(V u, V t) {
    using T = typename lane<V>::Scalar;
    const V zero = V(T(0)), quarter = V(T(0.25)), x = u * t, t2 = t * t, one = V(T(1));
    const typename lane<V>::Mask near = (t < quarter) & (x < quarter);
    V older = one, newer = x, value = one, slope = zero, factorial = one;  // t^m He_m(u) for two m in turn
    for (int m = 1; m < 17; m += 2) {
      factorial = factorial * V(T(1) / T((m + 1) * (m + 2)));
      slope = fmadd(V(T(m + 1)) * factorial, newer, slope);
      older = muladd(x, newer, V(T(-m)) * t2 * older);
      value = fmadd(factorial, older, value);
      newer = muladd(x, older, V(T(-m - 1)) * t2 * newer);
    }
    const V a = u - t, b = u + t, end = V(kMillsEnd<T>);
    const auto upper = mills_quotient<kUpperTail<T>>(min(end, b)), lower = mills_quotient<kUpperTail<T>>(min(end, max(a, zero)));
    const V outside = exp(V(T(-2)) * x) * (upper.high / lower.high);
    return {value, t * slope, near, a, b, select(a < zero, ndtr(-b) / ndtr(-a), outside)};
  }

  template <class V>
  SOFTMAP_HD static Outcomes<V> probabilities(V d, V t) {
    using T = typename lane<V>::Scalar;
    const V u = abs(d), two = V(T(2));
    const auto f = tie(u, t);
    const auto p = bell(min(V(kTailEnd<T>), u));
    const V density = scale2(p.m.high * V(kInvSqrt2Pi<T>), p.e), below = ndtr(-f.a);
    return {ndtr(d - t), ndtr(-d - t), select(f.near, two * t * density * f.value, fmadd(-below, f.q, below))};
  }
  template <class V>
  SOFTMAP_HD static Outcomes<V> log_probabilities(V d, V t) {
    using T = typename lane<V>::Scalar;
    const V u = abs(d);
    const auto f = tie(u, t);
    const V near = fmadd(V(T(-0.5)) * u, u, log(V(T(2)) * V(kInvSqrt2Pi<T>) * t * f.value));
    return {log_ndtr(d - t), log_ndtr(-d - t), select(f.near, near, log_ndtr(-f.a) + log1p(-f.q))};
  }
  template <class V>
  SOFTMAP_HD static ThresholdEdges<V> edges(V d, V t) {
    using T = typename lane<V>::Scalar;
    const V zero = V(T(0)), one = V(T(1)), half = V(T(0.5)), u = abs(d);
    const auto f = tie(u, t);
    const auto at_a = normal_slopes(abs(f.a)), at_b = normal_slopes(f.b);
    const auto inside = f.a < zero;
    const V beat = select(inside, at_a.left, at_a.right), beat_curve = select(inside, at_a.left_curve, at_a.right_curve);
    // Far: from the hazards phi / Q at a and b, and what they are above a and b.
    const V hazard = select(inside, at_a.right, at_a.left), excess_a = select(inside, at_a.right - f.a, at_a.excess);
    const V inverse = one / (one - f.q), odds = f.q * inverse, apart = fmadd(V(T(2)), t, at_b.excess - excess_a);
    const V far_a = hazard * inverse, far_b = at_b.left * odds, far_from_a = fmadd(-odds, apart, excess_a);
    // Near: r_a - r_b = u - G'/G, r_a + r_b = exp(-t^2/2) cosh(u t) / (t G).
    const V x = u * t, excess = f.by_u / f.value, middle = u - excess;
    const V rise = exp(V(T(-0.5)) * t * t) * (half * (exp(x) + exp(-x))) / (t * f.value);
    const auto pick = [&](V near, V far) { return select(f.near, near, far); };
    const V r_a = pick(half * (rise + middle), far_a), r_b = pick(half * (rise - middle), far_b);
    const V from_a = pick(t - excess, far_from_a), to_b = pick(t + excess, fmadd(V(T(2)), t, -far_from_a));
    const V curve_a = r_a * from_a, curve_b = r_b * to_b;
    const V slope_a = pick(zero, -r_a), slope_b = pick(zero, r_b), slope_d = pick(-middle, zero);
    const auto negative = d < zero;
    return {select(negative, at_b.left, beat),
            select(negative, at_b.left_curve, beat_curve),
            select(negative, beat, at_b.left),
            select(negative, beat_curve, at_b.left_curve),
            {select(negative, -slope_d, slope_d), pick(rise, zero), select(negative, -slope_b, slope_a),
             select(negative, -slope_a, slope_b)},
            {zero, V(T(4)) * r_a * r_b, select(negative, curve_b, curve_a), select(negative, curve_a, curve_b)}};
  }
  template <class V>
  SOFTMAP_HD static Outcomes<Slopes<V>> slopes(V d, V t) {
    return threshold_slopes(edges(d, t));
  }
  template <class V>
  SOFTMAP_HD static Parts<V> parts(V d, V t, V win, V loss, V tied) {
    return threshold_parts(edges(d, t), rounding_reach(d, t), win, loss, tied);
  }
};

}  // namespace softmap::core
