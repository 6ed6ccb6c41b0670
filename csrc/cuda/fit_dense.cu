// The batched fit. Four kernels pass over the same scratch memory: one reads and solves ordinary tables, one prepares what is
// left, one solves that in float64 with all precautions, and one writes the results. No kernel waits for another problem, and
// none needs to know how many are left.
#include "cuda/fit_dense.cuh"
#include "cuda/fit_groups.cuh"
#include "cuda/launch.cuh"

namespace softmap::cuda {
namespace {

using namespace dense;

constexpr int kBlock = 64;  // threads of a block
constexpr int kWarp = 32;
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
  Weights<T> weights() const { return {tables.wins, nullptr, n()}; }
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
  Weights<T> weights() const { return {tables.preferences, tables.anchors, n()}; }
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

// How ordinary tables are solved.
struct Quick {
  FitOptions options;
  bool predicts, keeps_hessian;
};

// Saves what a solver has found, or that the problem is left.
template <class Solver>
__device__ void save(const Solver& solver, bool solved, const Quick& quick, Problem&& p) {
  using T = typename Solver::V;
  T gradient_max(0);
  for (int i = solver.rank; solved && i < p.tile.n; i += solver.lanes) {
    p.state.s[i] = double(solver.score(i));
    const T share = T(core::abs(solver.gradient(i)) / core::max(1., double(solver.weight(i))));
    if (!solver.is_held(i)) gradient_max = core::max(gradient_max, share);
  }
  gradient_max = solver.largest_in_group(gradient_max);
  if (solved && quick.keeps_hessian) solver.save_hessian(p.state.hessian);
  if (solver.rank != 0) return;
  p.left = solved ? 0 : 1;
  p.state.gradient_max = double(gradient_max);
  p.state.n_iter = double(solver.n_iter);
  p.state.scale = 1;
  p.state.status = double(FitStatus::ok);
  p.save();
}

template <class T, class Link>
__global__ void __launch_bounds__(kBlock)
    solve_in_threads_kernel(Weights<T> weights, Priors priors, Quick quick, Batch batch, Scratch scratch) {
  using Solver = ThreadSolver<T, Link, kBlock>;
  SOFTMAP_SHARED(typename Solver::Shared, shared, 1);
  Solver solver(shared[0], static_cast<int>(threadIdx.x), weights.n);
  for_each_slot(batch, [&](int slot) {
    const bool ok = solver.load(weights, priors, batch.first + slot);
    save(solver, ok && solve_ordinary<Link>(solver, quick.options, quick.predicts, quick.keeps_hessian), quick,
         scratch.problem(slot));
  });
}

template <class T, class Link>
__global__ void __launch_bounds__(kWarp)
    solve_in_groups_kernel(Weights<T> weights, Priors priors, Quick quick, Batch batch, Scratch scratch) {
  SOFTMAP_DYNAMIC_SHARED(unsigned char, memory);
  GroupSolver<T, Link> solver(memory, weights.n);
  const int per_warp = kWarp / solver.lanes, group = static_cast<int>(threadIdx.x) / solver.lanes;
  for (int first = static_cast<int>(blockIdx.x) * per_warp; first < batch.n_slots;
       first += static_cast<int>(gridDim.x) * per_warp) {
    // A group without a problem solves the last one once more, for a slot that nobody reads.
    const int slot = first + group, problem = slot < batch.n_slots ? slot : batch.n_slots - 1;
    const bool ok = solver.load(weights, priors, batch.first + problem);
    const bool solved = solve_ordinary<Link>(solver, quick.options, quick.predicts, quick.keeps_hessian) && ok;
    save(solver, solved, quick, scratch.problem(slot));
    solver.sync();
  }
}

// Reads the problems that are left.
template <class Job>
__global__ void __launch_bounds__(kBlock, 1)
    prepare_fits_kernel(Job job, Priors priors, FitOptions options, bool all, Batch batch, Scratch scratch) {
  for_each_slot(batch, [&](int slot) {
    const Index problem = batch.first + slot;
    Problem p = scratch.problem(slot);
    if (!all) p.restore();
    if (!all && p.left == 0) return;
    job.load(problem, p.tile);
    load_priors(priors, problem, p.tile, 0);
    p.state.status = prepare(p.tile, p.state, options, scratch.room_of(slot));
    if (scratch.shape.border) start_border(p.tile, p.state, options);
    p.left = p.state.status == 0 ? 1 : 0;
    p.save();
  });
}

// Solves what is left. Model is a link, or with a border a tie model.
template <class Model, bool kBorder>
__global__ void __launch_bounds__(kBlock, 1) solve_fits_kernel(FitOptions options, Batch batch, Scratch scratch) {
  for_each_slot(batch, [&](int slot) {
    Problem p = scratch.problem(slot);
    p.restore();
    if (p.left == 0) return;
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

template <class T, class Link>
void launch_ordinary(const Exec& exec, const Weights<T>& weights, const Priors& priors, const Quick& quick, const Batch& batch,
                     const Scratch& scratch) {
  using Threads = ThreadSolver<T, Link, kBlock>;
  using Groups = GroupSolver<T, Link>;
  if (weights.n <= Threads::N) {
    launch<&solve_in_threads_kernel<T, Link>>(exec, {batch.n_slots, kBlock, kBlock}, weights, priors, quick, batch, scratch);
  } else {
    const int per_warp = kWarp / Groups::lanes_for(weights.n);
    const auto bytes = static_cast<std::size_t>(per_warp * Groups::bytes(weights.n));
    launch<&solve_in_groups_kernel<T, Link>>(exec, {batch.n_slots, per_warp, kWarp, bytes}, weights, priors, quick, batch,
                                             scratch);
  }
}

// Launches the kernel that solves what is left.
void solve_with_care(const Exec& exec, const Work& work, const FitOptions& options, const Batch& batch, const Scratch& scratch) {
  const auto solve = [&]<class Model, bool kBorder>() {
    launch<&solve_fits_kernel<Model, kBorder>>(exec, work, options, batch, scratch);
  };
  if (options.ties == TieOption::davidson) return solve.template operator()<core::Davidson, true>();
  if (options.ties == TieOption::rao_kupper) return solve.template operator()<core::RaoKupper, true>();
  if (options.ties == TieOption::threshold) return solve.template operator()<core::NormalThreshold, true>();
  const auto with_link = [&]<class Link>() {
    scratch.shape.border ? solve.template operator()<NoTies<Link>, true>() : solve.template operator()<Link, false>();
  };
  options.probit ? with_link.template operator()<core::Probit>() : with_link.template operator()<core::Logit>();
}

// Fits all problems, as many at a time as there is scratch memory for. An order of the tables needs a border, too: its advantage.
template <class T, class Job>
void fit_all(const Job& job, bool ordered, bool ties, const Priors& priors, const FitOptions& options, const Exec& exec) {
  Scratch scratch({job.n(), ordered, ties, ordered || has_border(options)});
  const Index fit_in = kScratchBytes / (scratch.size() * Index(sizeof(double))) / kBlock * kBlock, n = job.n_problems();
  // Slots in whole blocks, so that all groups of a warp have one.
  const Index needed = (n + kBlock - 1) / kBlock * kBlock, at_once = needed < fit_in ? needed : fit_in;
  if (n > 0) scratch.memory = exec.scratch<double>(at_once * scratch.size());
  for (Index first = 0; first < n; first += at_once) {
    const Batch batch{first, static_cast<int>(n - first < at_once ? n - first : at_once)};
    const Work work{batch.n_slots, kBlock, kBlock};
    if (!scratch.shape.border) {
      const Quick quick{options, job.predicts(), job.wants_errors()};
      const auto solve = options.probit ? &launch_ordinary<T, core::Probit> : &launch_ordinary<T, core::Logit>;
      solve(exec, job.weights(), priors, quick, batch, scratch);
    }
    launch<&prepare_fits_kernel<Job>>(exec, work, job, priors, options, scratch.shape.border, batch, scratch);
    solve_with_care(exec, work, options, batch, scratch);
    launch<&finish_fits_kernel<Job>>(exec, work, job, has_border(options), batch, scratch);
  }
}

}  // namespace

template <class T>
void fit_many(const Tables<T>& tables, const Priors& priors, const FitOptions& options, const FitOut<T>& out, const Exec& exec) {
  fit_all<T>(ManyJob<T>{tables, out}, tables.losses != nullptr, tables.ties != nullptr, priors, options, exec);
}

template <class T>
void score_against_anchors(const AnchorTables<T>& tables, const Priors& priors, const FitOptions& options, const Rescale& rescale,
                           bool centred, const AnchorOut<T>& out, const Exec& exec) {
  fit_all<T>(AnchorJob<T>{tables, rescale, centred, out}, false, false, priors, options, exec);
}

#define SOFTMAP_INSTANTIATE(T)                                                                                        \
  template void fit_many(const Tables<T>&, const Priors&, const FitOptions&, const FitOut<T>&, const Exec&);          \
  template void score_against_anchors(const AnchorTables<T>&, const Priors&, const FitOptions&, const Rescale&, bool, \
                                      const AnchorOut<T>&, const Exec&);
SOFTMAP_INSTANTIATE(float)
SOFTMAP_INSTANTIATE(double)
#undef SOFTMAP_INSTANTIATE

}  // namespace softmap::cuda
