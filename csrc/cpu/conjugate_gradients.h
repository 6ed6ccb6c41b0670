#pragma once
// Conjugate gradients on a graph, for several systems at once.
#include "cpu/neighbours.h"
#include "cpu/parallel.h"

namespace softmap::cpu {
namespace {

constexpr Index kChunk = 4096;  // nodes

// A matrix as in graph.h among some nodes: their neighbours by number among them, the weights in that order, and by node the
// diagonal and the inverse of the diagonal of the matrix.
struct Inside {
  const Buffer<Node>& node;
  const Neighbours& near;
  const double *weight, *own, *inverse;
};

// Conjugate gradients, preconditioned by the diagonal, for `width` systems at once: what a node reads of a neighbour
// is of all of them. Sums over chunks of nodes are added in order. Direction: float keeps twice as many neighbours in the cache;
// the solution is corrected by the rounded directions, so that it costs steps at most.
template <class Direction, int width>
class ConjugateGradients {
 public:
  ConjugateGradients(const Inside& inside, const Exec& exec)
      : s_(inside),
        exec_(exec),
        n_(inside.node.size()),
        r_(width * n_),
        p_(width * n_),
        q_(width * n_),
        parts_(width * ((n_ + kChunk - 1) / kChunk)) {}

  // Solves for the g of the nodes inside, `width` numbers a node, and writes x in their place; returns the number of steps or -1.
  int run(double* g, double rtol, int most) {
    double length[width], keep[width], rho[width], enough[width], sums[width];
    add(rho, [&](Index i, double* sum) {
      double* const x = &g[width * Index(s_.node[i])];
      const double inverse = s_.inverse[s_.node[i]];
      for (int k = 0; k < width; ++k) {
        r_[width * i + k] = x[k];
        p_[width * i + k] = static_cast<Direction>(inverse * x[k]);
        sum[k] += x[k] * (inverse * x[k]);
        x[k] = 0.;
      }
    });
    for (int k = 0; k < width; ++k) enough[k] = rtol * rtol * rho[k];
    bool on[width];
    for (int k = 0; k < width; ++k) on[k] = true;
    for (int step = 0;; ++step) {
      bool any = false;
      for (int k = 0; k < width; ++k) any |= on[k] = on[k] && rho[k] > enough[k];
      if (!any || step == most) return any ? -1 : finish(rho, enough, step);
      times_matrix(sums);
      for (int k = 0; k < width; ++k) {
        on[k] = on[k] && sums[k] > 0.;
        length[k] = on[k] ? rho[k] / sums[k] : 0.;
      }
      add(sums, [&](Index i, double* sum) {
        double* const x = &g[width * Index(s_.node[i])];
        const double inverse = s_.inverse[s_.node[i]];
        for (int k = 0; k < width; ++k) {
          x[k] += length[k] * static_cast<double>(p_[width * i + k]);
          const double r = r_[width * i + k] -= length[k] * q_[width * i + k];
          sum[k] += r * r * inverse;
        }
      });
      for (int k = 0; k < width; ++k) {
        keep[k] = on[k] ? sums[k] / rho[k] : 0.;
        rho[k] = on[k] ? sums[k] : rho[k];
      }
      parallel_for(exec_, n_, kChunk, width * n_, [&](Index first, Index last, int) {
        for (Index i = first; i < last; ++i) {
          const double inverse = s_.inverse[s_.node[i]];
          for (int k = 0; k < width; ++k) {
            Direction& p = p_[width * i + k];
            p = static_cast<Direction>(inverse * r_[width * i + k] + keep[k] * static_cast<double>(p));
          }
        }
      });
    }
  }

 private:
  static int finish(const double* rho, const double* enough, int step) {
    for (int k = 0; k < width; ++k) {
      if (rho[k] > enough[k]) return -1;
    }
    return step;
  }
  // q = H p; bend: p' q.
  void times_matrix(double* bend) {
    add(bend, [&](Index i, double* sum) {
      const Direction* const mine = &p_[width * i];
      const double own = s_.own[s_.node[i]];
      double flow[width];
      for (int k = 0; k < width; ++k) flow[k] = own * static_cast<double>(mine[k]);
      for (Index e = s_.near.starts[i]; e < s_.near.starts[i + 1]; ++e) {
        const double weight = s_.weight[e];
        const Direction* const other = &p_[width * Index(s_.near.at[e])];
        for (int k = 0; k < width; ++k) flow[k] += weight * static_cast<double>(mine[k] - other[k]);
      }
      for (int k = 0; k < width; ++k) {
        q_[width * i + k] = flow[k];
        sum[k] += flow[k] * static_cast<double>(mine[k]);
      }
    });
  }
  // sums: of what body(i, sum) adds for the nodes.
  template <class Body>
  void add(double* sums, Body&& body) {
    parallel_for(exec_, n_, kChunk, width * (s_.near.at.size() + n_), [&](Index first, Index last, int) {
      for (Index start = first; start < last; start += kChunk) {
        double part[width] = {};
        for (Index i = start; i < (start + kChunk < last ? start + kChunk : last); ++i) body(i, part);
        for (int k = 0; k < width; ++k) parts_[width * (start / kChunk) + k] = part[k];
      }
    });
    for (int k = 0; k < width; ++k) sums[k] = 0.;
    for (Index part = 0; part < parts_.size(); ++part) sums[part % width] += parts_[part];
  }

  const Inside& s_;
  const Exec& exec_;
  Index n_;
  Buffer<double> r_;
  Buffer<Direction> p_;
  Buffer<double> q_, parts_;
};

}  // namespace
}  // namespace softmap::cpu
