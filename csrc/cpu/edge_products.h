#pragma once
// Products with matrices on a graph, edge by edge: they take as long as reading what edges lead to.
#include "cpu/neighbours.h"
#include "cpu/parallel.h"

namespace softmap::cpu {
namespace {

// At most one edge between two nodes.
struct Joined {
  Index n_nodes, n_edges;
  const Node *from, *to;
};

// y = H x for each of n_rows rows, H as in graph.h.
void multiply_rows(const Joined& edges, const Buffer<double>& weights, const double* diagonal, const double* x, double* y,
                   Index n_rows, const Exec& exec) {
  constexpr int width = 4;
  struct Place {  // of a node: a line of the cache
    double in[width], out[width];
  };
  const Index n = edges.n_nodes, work = n_rows * edges.n_edges;
  const Scratch<Place> scratch(slots_for(exec, n_rows, width, work), n);
  parallel_for(exec, n_rows, width, work, [&](Index begin, Index end, int slot) {
    Place* const place = scratch[slot];
    for (Index first = begin; first < end; first += width) {
      const Index count = end - first < width ? end - first : width;
      for (Index i = 0; i < n; ++i) {
        for (Index k = 0; k < width; ++k) {
          place[i].in[k] = k < count ? x[(first + k) * n + i] : 0.;
          place[i].out[k] = diagonal[i] * place[i].in[k];
        }
      }
      for (Index e = 0; e < edges.n_edges; ++e) {  // by differences, which may be small
        Place &a = place[edges.from[e]], &b = place[edges.to[e]];
        double flow[width];
        for (int k = 0; k < width; ++k) flow[k] = weights[e] * (a.in[k] - b.in[k]);
        for (int k = 0; k < width; ++k) a.out[k] += flow[k];
        for (int k = 0; k < width; ++k) b.out[k] -= flow[k];
      }
      for (Index i = 0; i < n; ++i) {
        for (Index k = 0; k < count; ++k) y[(first + k) * n + i] = place[i].out[k];
      }
    }
  });
}

// With H = D - W and M = m - N, D and m their diagonals, b0 = D^-1 z, b1 = D^-1 W b0, b2 = D^-1 W b1:
//
//   A z = D^-1 (c0 + c1 + c2 + W D^-1 (c0 + c1 + W D^-1 c0)),   c0 = m b0,   c1 = m b1 - N b0,   c2 = m b2 - N b1,
//
// all terms of H^-1 M H^-1 z with up to two factors W or N; the diagonals of these are sums over neighbours. Vectors are single,
// as A need not be what it stands for; nodes beyond the range of float are as if D^-1 were 0.
class Series {
 public:
  // w, off: of the edges
  Series(const Joined& edges, Buffer<double> w, const double* h_diagonal, Buffer<double> off, const double* m_diagonal)
      : edges_(edges),
        n_(edges.n_nodes),
        w_(static_cast<Buffer<double>&&>(w)),
        off_(static_cast<Buffer<double>&&>(off)),
        inverse_(n_),
        meat_(n_),
        place_(n_),
        all_(width * n_) {
    for (Index i = 0; i < n_; ++i) {
      inverse_[i] = h_diagonal[i];
      meat_[i] = m_diagonal[i];
    }
    for (Index e = 0; e < edges.n_edges; ++e) {
      inverse_[edges.from[e]] += w_[e];
      inverse_[edges.to[e]] += w_[e];
      meat_[edges.from[e]] += off_[e];
      meat_[edges.to[e]] += off_[e];
    }
    for (Index i = 0; i < n_; ++i) {
      const bool inside = inverse_[i] > 0x1p-50 && inverse_[i] < 0x1p50 && meat_[i] < 0x1p70;
      inverse_[i] = inside ? 1. / inverse_[i] : 0.;
    }
  }

  void find_diagonal(double* diagonal) const {
    for (Index i = 0; i < n_; ++i) diagonal[i] = meat_[i];
    const auto meet = [&](Index e, Node i, Node j) {
      const double there = w_[e] * inverse_[j];
      diagonal[i] += there * (2. * (w_[e] * inverse_[i] * meat_[i] - off_[e]) + there * meat_[j]);
    };
    for (Index e = 0; e < edges_.n_edges; ++e) {
      meet(e, edges_.from[e], edges_.to[e]);
      meet(e, edges_.to[e], edges_.from[e]);
    }
    for (Index i = 0; i < n_; ++i) diagonal[i] *= inverse_[i] * inverse_[i];
  }

  // az = A z for up to `width` rows.
  void multiply(const double* z, double* az, Index n_rows) {
    for (Index i = 0; i < n_; ++i) {
      for (Index k = 0; k < width; ++k) place_[i].x[k] = k < n_rows ? static_cast<float>(inverse_[i] * z[k * n_ + i]) : 0.f;
    }
    add_neighbours();
    each([](float d, float m, Place& p, int k, float& all) {
      const float next = d * p.by_w[k];
      p.kept[k] = m * p.x[k];                   // c0
      all = m * (p.x[k] + next) - p.by_off[k];  // c0 + c1
      p.x[k] = next;
    });
    add_neighbours();
    each([](float d, float m, Place& p, int k, float& all) {
      const float upto = all;
      all += m * (d * p.by_w[k]) - p.by_off[k];  // c0 + c1 + c2
      p.x[k] = d * p.kept[k];
      p.kept[k] = upto;
    });
    add_neighbours();
    each([](float d, float, Place& p, int k, float&) { p.x[k] = d * (p.kept[k] + p.by_w[k]); });
    add_neighbours();
    each([](float d, float, Place& p, int k, float& all) { p.x[k] = d * (all + p.by_w[k]); });
    for (Index i = 0; i < n_; ++i) {
      for (Index k = 0; k < n_rows; ++k) az[k * n_ + i] = static_cast<double>(place_[i].x[k]);
    }
  }

  static constexpr int width = 8;

 private:
  struct Place {  // of a node: two lines of the cache
    float x[width], by_w[width], by_off[width], kept[width];
  };

  template <class Body>
  void each(Body&& body) {
    for (Index i = 0; i < n_; ++i) {
      const auto d = static_cast<float>(inverse_[i]), m = static_cast<float>(meat_[i]);
      for (int k = 0; k < width; ++k) body(d, m, place_[i], k, all_[width * i + k]);
    }
  }
  // by_w = W x, by_off = N x
  void add_neighbours() {
    for (Index i = 0; i < n_; ++i) {
      for (int k = 0; k < width; ++k) place_[i].by_w[k] = place_[i].by_off[k] = 0.f;
    }
    for (Index e = 0; e < edges_.n_edges; ++e) {
      const auto w = static_cast<float>(w_[e]), off = static_cast<float>(off_[e]);
      Place &a = place_[edges_.from[e]], &b = place_[edges_.to[e]];
      float in_a[width], in_b[width];  // which no store changes
      for (int k = 0; k < width; ++k) in_a[k] = a.x[k];
      for (int k = 0; k < width; ++k) in_b[k] = b.x[k];
      for (int k = 0; k < width; ++k) a.by_w[k] += w * in_b[k];
      for (int k = 0; k < width; ++k) a.by_off[k] += off * in_b[k];
      for (int k = 0; k < width; ++k) b.by_w[k] += w * in_a[k];
      for (int k = 0; k < width; ++k) b.by_off[k] += off * in_a[k];
    }
  }

  const Joined edges_;
  Index n_;
  Buffer<double> w_, off_, inverse_, meat_;
  Buffer<Place> place_;
  Buffer<float> all_;
};

}  // namespace
}  // namespace softmap::cpu
