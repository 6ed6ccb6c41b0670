#pragma once
// The graph of who met whom: its connected parts, and linear systems on it. One declaration for every backend.
#include <cstdint>

#include "views.h"

namespace softmap {

// Edges between nodes 0 .. n_nodes - 1, n_nodes < 2^31; any number between two nodes.
struct Edges {
  Index n_nodes, n_edges;
  const std::int64_t *from, *to;
};

namespace SOFTMAP_BACKEND {

struct Exec;

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
