// The batched fit. Three or four kernels pass over the same scratch memory: one reads tables and priors, one solves ordinary
// tables of few items in registers, one solves what is left with all precautions, and one writes the results. Everything is
// float64, whatever the tables are. No kernel waits for another problem, and none needs to know how many are left.
#include "cuda/fit_dense.cuh"
#include "cuda/launch.cuh"

namespace softmap::cuda {
namespace {

using namespace dense;

constexpr int kBlock = 64;                  // threads of a block
constexpr Index kScratchBytes = 512 << 20;  // at most: a larger batch is cut

// Where the problems of a call come from and go to.
template <class T>
struct ManyJob {
  Tables<T> tables;
  FitOut<T> out;
  SOFTMAP_HD Index n_problems() const { return tables.n_problems; }
  SOFTMAP_HD int n() const { return tables.n; }
  bool wants_errors() const { return out.standard_errors != nullptr; }
  bool predicts() const { return false; }
  template <class P>
  SOFTMAP_HD void load(Index problem, dense::Tile<P>& t) const {
    load_table(tables, problem, t, 0);
  }
  template <class P>
  SOFTMAP_HD void finish(dense::State<P>& st, bool border, Index problem) const {
    write_fit(st, n(), border, dense::Lot<P>{{problem}, 1}, out);
  }
};
template <class T>
struct AnchorJob {
  AnchorTables<T> tables;
  Rescale rescale;
  bool centred;
  AnchorOut<T> out;
  SOFTMAP_HD Index n_problems() const { return tables.n_problems; }
  SOFTMAP_HD int n() const { return tables.m + 1; }
  bool wants_errors() const { return out.standard_errors != nullptr; }
  bool predicts() const { return !wants_errors(); }
  template <class P>
  SOFTMAP_HD void load(Index problem, dense::Tile<P>& t) const {
    load_row(tables, problem, t, 0);
  }
  template <class P>
  SOFTMAP_HD void finish(dense::State<P>& st, bool, Index problem) const {
    write_test_item(st, n(), rescale, centred, dense::Lot<P>{{problem}, 1}, out);
  }
};

// The problems that a launch takes, a slot of the scratch memory each.
struct Batch {
  Index first;
  int n_slots;
};

// body(slot) for the slots of this thread.
template <class Body>
__device__ void for_each_slot(const Batch& batch, Body&& body) {
  for (int slot = static_cast<int>(blockIdx.x * kBlock + threadIdx.x); slot < batch.n_slots;
       slot += static_cast<int>(gridDim.x) * kBlock) {
    body(slot);
  }
}

template <class Job>
__global__ void __launch_bounds__(kBlock, 1)
    prepare_fits_kernel(Job job, Priors priors, FitOptions options, Batch batch, Scratch scratch) {
  for_each_slot(batch, [&](int slot) {
    const Index problem = batch.first + slot;
    Problem p = scratch.problem(slot);
    job.load(problem, p.tile);
    load_priors(priors, problem, p.tile, 0);
    p.state.status = prepare(p.tile, p.state, options, scratch.room_of(slot));
    if (scratch.shape.border) start_border(p.tile, p.state, options);
    p.left = p.state.status == 0 ? 1 : 0;
    p.save();
  });
}

// Solves what OrdinaryNewton can, in registers.
template <class Link, int N>
__global__ void __launch_bounds__(kBlock, 1)
    solve_ordinary_kernel(FitOptions options, bool predicts, bool keeps_hessian, Batch batch, Scratch scratch) {
  for_each_slot(batch, [&](int slot) {
    Problem p = scratch.problem(slot);
    p.restore();
    if (p.left == 0) return;
    dense::Tile<InRegisters, N> t;
    t.n = N;
    t.ordered = t.ties = false;
    t.win = p.tile.win;
    t.loss = p.tile.loss;
    dense::State<InRegisters, N> st;
    st.mean = p.state.mean;
    st.precision = p.state.precision;
    st.s = p.state.s;
    st.g = p.state.g;
    st.weight = p.state.weight;
    st.scale = p.state.scale;
    st.grounded = false;
    if (!OrdinaryNewton<InRegisters, Link, N, N>{t, st}.solve_tile(options, predicts)) return;
    p.state.n_iter = st.n_iter;
    p.state.gradient_max = st.gradient_max;
    p.left = 0;
    p.save();
    if (!keeps_hessian) return;
#pragma unroll
    for (int k = 0; k < N * (N - 1) / 2; ++k) p.state.hessian.h[k] = st.hessian.h[k];
#pragma unroll
    for (int i = 0; i < N; ++i) {
      p.state.hessian.p[i] = st.hessian.p[i];
      p.state.hessian.inverse[i] = st.hessian.inverse[i];
    }
  });
}

// Solves what is left. Model is a link, or with a border a tie model.
template <class Model, bool kBorder>
__global__ void __launch_bounds__(kBlock, 1) solve_fits_kernel(FitOptions options, Batch batch, Scratch scratch) {
  for_each_slot(batch, [&](int slot) {
    Problem p = scratch.problem(slot);
    p.restore();
    if (p.left == 0) return;
    start(p.tile, p.state, true);  // again, where solve_ordinary_kernel has moved it
    Newton<InMemory, Model, 0, false, kBorder>{p.tile, p.state, options.first_advantage.value}.solve_tile(options);
    p.save();
  });
}

template <class Job>
__global__ void __launch_bounds__(kBlock, 1) finish_fits_kernel(Job job, bool border, Batch batch, Scratch scratch) {
  for_each_slot(batch, [&](int slot) {
    Problem p = scratch.problem(slot);
    p.restore();
    job.finish(p.state, border, batch.first + slot);
  });
}

// The largest number of items whose elimination fits into registers.
constexpr int kMostInRegisters = 10;
template <class Link, int N = 2>
void solve_ordinary(const Exec& exec, const Work& work, const FitOptions& options, bool predicts, bool keeps_hessian,
                    const Batch& batch, const Scratch& scratch) {
  if (scratch.shape.n == N) {
    launch<&solve_ordinary_kernel<Link, N>>(exec, work, options, predicts, keeps_hessian, batch, scratch);
  } else if constexpr (N < kMostInRegisters) {
    solve_ordinary<Link, N + 1>(exec, work, options, predicts, keeps_hessian, batch, scratch);
  }
}

// Launches the kernels that solve the problems in the scratch memory.
void solve_fits(const Exec& exec, const Work& work, const FitOptions& options, bool predicts, bool keeps_hessian,
                const Batch& batch, const Scratch& scratch) {
  const auto solve = [&]<class Model, bool kBorder>() {
    launch<&solve_fits_kernel<Model, kBorder>>(exec, work, options, batch, scratch);
  };
  if (options.ties == TieOption::davidson) return solve.template operator()<core::Davidson, true>();
  if (options.ties == TieOption::rao_kupper) return solve.template operator()<core::RaoKupper, true>();
  if (options.ties == TieOption::threshold) return solve.template operator()<core::NormalThreshold, true>();
  const auto with_link = [&]<class Link>() {
    if (scratch.shape.border) return solve.template operator()<NoTies<Link>, true>();
    solve_ordinary<Link>(exec, work, options, predicts, keeps_hessian, batch, scratch);
    solve.template operator()<Link, false>();
  };
  options.probit ? with_link.template operator()<core::Probit>() : with_link.template operator()<core::Logit>();
}

// Fits all problems, as many at a time as there is scratch memory for. An order of the tables needs a border, too: its advantage.
template <class Job>
void fit_all(const Job& job, bool ordered, bool ties, const Priors& priors, const FitOptions& options, const Exec& exec) {
  Scratch scratch({job.n(), ordered, ties, ordered || has_border(options)});
  const Index fit_in = kScratchBytes / (scratch.size() * Index(sizeof(double))) / kBlock * kBlock, n = job.n_problems();
  const Index needed = (n + kBlock - 1) / kBlock * kBlock, at_once = needed < fit_in ? needed : fit_in;
  if (n > 0) scratch.memory = exec.scratch<double>(at_once * scratch.size());
  for (Index first = 0; first < n; first += at_once) {
    const Batch batch{first, static_cast<int>(n - first < at_once ? n - first : at_once)};
    const Work work{batch.n_slots, kBlock, kBlock};
    launch<&prepare_fits_kernel<Job>>(exec, work, job, priors, options, batch, scratch);
    solve_fits(exec, work, options, job.predicts(), job.wants_errors(), batch, scratch);
    launch<&finish_fits_kernel<Job>>(exec, work, job, has_border(options), batch, scratch);
  }
}

}  // namespace

template <class T>
void fit_many(const Tables<T>& tables, const Priors& priors, const FitOptions& options, const FitOut<T>& out, const Exec& exec) {
  fit_all(ManyJob<T>{tables, out}, tables.losses != nullptr, tables.ties != nullptr, priors, options, exec);
}

template <class T>
void score_against_anchors(const AnchorTables<T>& tables, const Priors& priors, const FitOptions& options, const Rescale& rescale,
                           bool centred, const AnchorOut<T>& out, const Exec& exec) {
  fit_all(AnchorJob<T>{tables, rescale, centred, out}, false, false, priors, options, exec);
}

#define SOFTMAP_INSTANTIATE(T)                                                                                        \
  template void fit_many(const Tables<T>&, const Priors&, const FitOptions&, const FitOut<T>&, const Exec&);          \
  template void score_against_anchors(const AnchorTables<T>&, const Priors&, const FitOptions&, const Rescale&, bool, \
                                      const AnchorOut<T>&, const Exec&);
SOFTMAP_INSTANTIATE(float)
SOFTMAP_INSTANTIATE(double)
#undef SOFTMAP_INSTANTIATE

}  // namespace softmap::cuda
