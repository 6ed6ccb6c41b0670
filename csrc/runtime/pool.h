#pragma once
// The threads that share the chunks of one call.
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "views.h"

namespace softmap {

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

}  // namespace softmap
