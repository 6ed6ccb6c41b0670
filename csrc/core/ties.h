#pragma once
// Comparisons with three outcomes: how likely a win, a loss and a tie are, given the difference d of two scores and the
// parameter t of a tie model.
//
// A tie model is a struct with static members, each over a value type V:
//   probabilities(d, t)      of win, loss and tie; they add up to 1
//   log_probabilities(d, t)  exact in the far tails
//   slopes(d, t)             derivatives of the three logarithms, which Newton's method needs
// The three logarithms are concave in (d, t) together. kPositive says that t must be at least 0.
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
};

// What the threshold models share: with F the link, win = F(d - t), loss = F(-d - t).
template <class V>
SOFTMAP_HD Slopes<V> threshold_win(V slope, V curve) {
  return {slope, -slope, curve, -curve, curve};
}
template <class V>
SOFTMAP_HD Slopes<V> threshold_loss(V slope, V curve) {
  return {-slope, -slope, curve, curve, curve};
}

// Rao & Kupper 1967, equation 2.3, with theta = exp(t): a tie where a logistic difference is below t in size.
//
//   win = F(d - t),  loss = F(-d - t),  tie = (1 - exp(-2t)) F(t + d) F(t - d)
struct RaoKupper {
  static constexpr bool kPositive = true;

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
  SOFTMAP_HD static Outcomes<Slopes<V>> slopes(V d, V t) {
    using T = typename lane<V>::Scalar;
    const auto below = Logit::slopes(d - t), above = Logit::slopes(d + t);
    const V h = V(T(2)) / expm1(V(T(2)) * t), dd = below.win_curve + above.win_curve;
    return {
        threshold_win(below.win, below.win_curve),
        threshold_loss(above.loss, above.loss_curve),
        {above.win - below.loss, h + (above.win + below.loss), dd, above.win_curve - below.win_curve, fmadd(h, h + V(T(2)), dd)}};
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
struct NormalThreshold {
  static constexpr bool kPositive = true;

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
  SOFTMAP_HD static Outcomes<Slopes<V>> slopes(V d, V t) {
    using T = typename lane<V>::Scalar;
    const V zero = V(T(0)), one = V(T(1)), half = V(T(0.5)), u = abs(d);
    const auto f = tie(u, t);
    const auto at_a = normal_slopes(abs(f.a)), at_b = normal_slopes(f.b);
    const auto inside = f.a < zero;
    const V beat = select(inside, at_a.left, at_a.right), beat_curve = select(inside, at_a.left_curve, at_a.right_curve);
    const V r_a = select(inside, at_a.right, at_a.left), c_a = select(inside, at_a.right_curve, at_a.left_curve);
    const V r_b = at_b.left, c_b = at_b.left_curve;
    // The tie by u and t. Far: log Q(a) + log(1 - q), from the hazards r = phi / Q and their slopes c = r (r - x).
    const V inverse = one / (one - f.q), odds = f.q * inverse, apart = r_b - r_a, both = r_a + r_b;
    const V steep = odds * inverse, more = c_b - c_a;
    const Slopes<V> far{fmadd(odds, apart, -r_a), fmadd(odds, both, r_a), fmadd(steep * apart, apart, c_a - odds * more),
                        fmadd(steep * both, apart, -c_a - odds * (c_a + c_b)), fmadd(steep * both, both, c_a - odds * more)};
    // Near: p = Phi(b) - Phi(a) has p_u / p = -u + G'/G, p_t / p = exp(-t^2/2) cosh(u t) / (t G).
    const V x = u * t, excess = f.by_u / f.value, slope = excess - u;
    const V rise = exp(V(T(-0.5)) * t * t) * (half * (exp(x) + exp(-x))) / (t * f.value);
    const Slopes<V> near{slope, rise, fmadd(slope, excess, t * rise), fmadd(rise, excess, t * slope),
                         fmadd(rise, rise, fmadd(u, slope, t * rise))};
    const auto negative = d < zero;
    const auto pick = [&](V n, V m) { return select(f.near, n, m); };
    const V by_d = pick(near.d, far.d), dt = pick(near.dt, far.dt);
    return {threshold_win(select(negative, r_b, beat), select(negative, c_b, beat_curve)),
            threshold_loss(select(negative, beat, r_b), select(negative, beat_curve, c_b)),
            {select(negative, -by_d, by_d), pick(near.t, far.t), pick(near.dd, far.dd), select(negative, -dt, dt),
             pick(near.tt, far.tt)}};
  }
};

}  // namespace softmap::core
