// `_runtime`: what exists once per process. CPU features and the thread pool.
#include <pthread.h>
#include <pybind11/pybind11.h>
#include <sched.h>
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <new>
#include <thread>

#include "runtime/blocks.h"
#include "runtime/runtime.h"

namespace py = pybind11;

namespace softmap {
namespace {

struct Job {
  void (*body)(void*, Index, int);
  void* context;
  Index n_chunks;
  int n_threads;
  std::atomic<Index> next{0};

  void run(int slot) {
    for (Index k = next++; k < n_chunks; k = next++) body(context, k, slot);
  }
};

// A pool that never ends: its threads sleep between jobs and die with the process. One job at a time; a second caller
// works alone instead of waiting.
class Pool {
 public:
  void run(Job& job) {
    std::unique_lock turn(turn_, std::try_to_lock);
    if (!turn.owns_lock()) return job.run(0);
    {
      std::lock_guard lock(state_);
      while (n_workers_ < job.n_threads - 1 && start_worker()) ++n_workers_;
      job_ = &job;
      entered_ = 1;
    }
    wake_.notify_all();
    job.run(0);
    std::unique_lock lock(state_);
    job_ = nullptr;  // whoever is not inside by now stays outside
    idle_.wait(lock, [&] { return inside_ == 0; });
  }

 private:
  bool start_worker() noexcept try {
    std::thread([this] { work(); }).detach();
    return true;
  } catch (...) {
    return false;  // the system gives no more threads: the caller does the work
  }

  void work() {
    std::unique_lock lock(state_);
    for (;;) {
      wake_.wait(lock, [&] { return job_ && entered_ < job_->n_threads; });
      Job* const job = job_;
      const int slot = entered_++;
      ++inside_;
      lock.unlock();
      job->run(slot);
      lock.lock();
      if (--inside_ == 0) idle_.notify_all();
    }
  }

  std::mutex turn_, state_;
  std::condition_variable wake_, idle_;
  Job* job_ = nullptr;
  int n_workers_ = 0, entered_ = 0, inside_ = 0;
};

// Never destroyed: threads may still sleep in it at exit. A forked child has none of the threads, so it gets a new pool.
std::atomic<Pool*> g_pool{new Pool};
std::atomic<int> g_set_threads{0};

int positive_int(const char* text) {
  char* end = nullptr;
  const long n = text ? std::strtol(text, &end, 10) : 0;
  return text && end != text && (*end == '\0' || *end == ',') && n > 0 && n < 4096 ? static_cast<int>(n) : 0;
}

// Processors that this process may use: affinity, and the quota of the control group (version 2) rounded up.
int usable_cpus() {
  int n = static_cast<int>(std::thread::hardware_concurrency());
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) n = CPU_COUNT(&set);
  if (std::FILE* f = std::fopen("/sys/fs/cgroup/cpu.max", "r")) {
    double quota = 0, period = 0;
    if (std::fscanf(f, "%lf %lf", &quota, &period) == 2 && quota > 0 && period > 0) {
      const int limit = static_cast<int>(quota / period + 0.999);
      if (limit < n) n = limit;
    }
    std::fclose(f);
  }
#endif
  return n > 0 ? n : 1;
}

int initial_threads() {
  if (const int n = positive_int(std::getenv("SOFTMAP_NUM_THREADS"))) return n;
  if (const int n = positive_int(std::getenv("OMP_NUM_THREADS"))) return n;
  return usable_cpus();
}

int default_threads() {
  static const int initial = initial_threads();
  const int set = g_set_threads.load(std::memory_order_relaxed);
  return set > 0 ? set : initial;
}

void parallel(Index n_chunks, int n_threads, void (*body)(void*, Index, int), void* context) {
  Job job{body, context, n_chunks, n_threads < n_chunks ? n_threads : static_cast<int>(n_chunks)};
  if (job.n_threads <= 1) return job.run(0);
  g_pool.load()->run(job);
}

// Never destroyed: arrays may outlive the module.
Blocks& blocks() {
  static Blocks* const pool = new Blocks;
  return *pool;
}
void* acquire(std::size_t bytes) { return blocks().enabled() ? blocks().acquire(bytes) : nullptr; }
void release(void* data) { blocks().release(data); }

const Runtime kRuntime{&parallel, &default_threads, &acquire, &release};

// True where both the processor and the operating system support the instruction sets of a backend.
bool supports(const std::string& isa) {
#if defined(__x86_64__)
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  if (isa == "avx2") return avx2;
  if (isa == "avx512") {
    return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq");
  }
#endif
  return isa == "base";
}

}  // namespace
}  // namespace softmap

PYBIND11_MODULE(_runtime, m, py::mod_gil_not_used()) {
  using namespace softmap;
  m.doc() = "Threads and CPU features of softmap, once per process.";
  pthread_atfork([] { blocks().lock(); }, [] { blocks().unlock(); },
                 [] {
                   blocks().unlock();
                   g_pool.store(new (std::nothrow) Pool);
                 });
  m.attr("capsule") = py::capsule(&kRuntime, kRuntimeCapsule);
  m.def("supports", &supports, py::arg("isa"));
  m.def("num_threads", &default_threads);
  m.def("set_num_threads", [](int n) { g_set_threads = n; }, py::arg("n"));
  m.def("get_set_threads", [] { return g_set_threads.load(); });
  m.def("release_memory", [] { return blocks().trim(); });
}
