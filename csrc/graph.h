#pragma once
// The graph of who met whom: its connected parts, and linear systems on it. One declaration for every backend.
#include <cstdint>

#include "pairwise.h"
#include "views.h"

namespace softmap {

// Edges between nodes 0 .. n_nodes - 1, n_nodes < 2^31; any number between two nodes.
struct Edges {
  Index n_nodes, n_edges;
  const std::int64_t *from, *to;
};

// The objective of a fit of pairs without a tie model, at scores less the mean of their prior. Pairs are sorted by left, then
// right. group: number of each item's connected group; floating: groups in which no score is held.
struct PairProblem {
  Index n_items, n_pairs, n_groups;
  const std::int64_t *left, *right;
  const double *wins, *losses;
  LinkKind link;
  double advantage, precision;  // of the first item; of the prior
  const std::uint8_t* free;     // scores that are not held
  const std::int64_t* group;
  const std::uint8_t* floating;
};
struct NewtonOptions {
  double mean, tol;  // no entry of the last step exceeds tol max(1, the largest mean + score)
  int most_steps;
};
struct NewtonResult {
  int n_steps;
  bool converged;
};

namespace SOFTMAP_BACKEND {

struct Exec;

// Newton's method with conjugate gradients, preconditioned by the diagonal: for graphs in which everybody is a few steps from
// everybody else. Not converged where that needs too many steps. theta: start and result. Throws std::bad_alloc.
NewtonResult newton_pairs(const PairProblem& problem, const NewtonOptions& options, double* theta, const Exec& exec);

// label[i] is the smallest node that is connected with i.
void connected(const Edges& edges, std::int64_t* label);

// label[i] numbers the strongly connected component of i, from 0; an edge between two goes from the higher to the lower.
void strong_components(const Edges& edges, std::int64_t* label);

// For edges between different nodes: systems H x = g with H_ij = -(sum of the weights of the edges i j) for i != j, H_ii =
// diagonal_i + sum_j |H_ij|; weights and diagonal >= 0. Items with few neighbours are eliminated, in an order that is found once;
// what remains is solved by conjugate gradients. Throws std::bad_alloc.
struct System;
System* make_system(const Edges& edges);
void free_system(System* system);
void factor_system(System& system, const double* weights, const double* diagonal);

// For each of n_systems right-hand sides of n_nodes numbers. A group of nodes without a diagonal has a solution up to a shift
// where its g add up to 0; some such solution is returned. Iterations stop where the residual is rtol of the first one, in the
// norm of the preconditioner. Returns how many were needed at most, or -1 where most_steps did not suffice.
struct Solve {
  const double* g;
  double* x;
  Index n_systems;
  double rtol;
  int most_steps;
};
int solve_system(const System& system, const Solve& solve, const Exec& exec);

}  // namespace SOFTMAP_BACKEND
}  // namespace softmap
