#pragma once
// A pool of large memory blocks for results. A fresh large array costs more in page faults than the softmax that fills it;
// here blocks are aligned to huge pages, and given back blocks are kept for the next result of nearly the same size.
#include <sys/mman.h>

#include <atomic>
#include <cstdio>
#include <mutex>
#include <unordered_map>
#include <vector>

namespace softmap {

class Blocks {
 public:
  // At least `bytes`, aligned to 64 or better; nullptr where the system has no more.
  void* acquire(std::size_t bytes) {
    const std::size_t size = (bytes + kPage - 1) / kPage * kPage;
    {
      std::lock_guard lock(mutex_);
      auto best = free_.end();
      for (auto b = free_.begin(); b != free_.end(); ++b) {
        const bool fits = b->size >= size && static_cast<double>(size) >= 0.8 * static_cast<double>(b->size);
        if (fits && (best == free_.end() || b->size < best->size)) best = b;
      }
      if (best != free_.end()) {
        const Block block = *best;
        free_.erase(best);
        free_bytes_ -= block.size;
        used_[block.data] = block.size;
        return block.data;
      }
    }
    void* const data = map(size);
    if (data) {
      std::lock_guard lock(mutex_);
      used_[data] = size;
    }
    return data;
  }

  // Keeps the block for the next result, in place of the oldest ones where the cap is reached.
  void release(void* data) {
    std::vector<Block> out;
    {
      std::lock_guard lock(mutex_);
      const auto found = used_.find(data);
      const Block block{data, found->second};
      used_.erase(found);
      while (!free_.empty() && free_bytes_ + block.size > cap_) {
        out.push_back(free_.front());
        free_bytes_ -= free_.front().size;
        free_.erase(free_.begin());
      }
      if (block.size <= cap_) {
        free_.push_back(block);
        free_bytes_ += block.size;
      } else {
        out.push_back(block);
      }
    }
    for (const auto& b : out) munmap(b.data, b.size);
  }

  // Gives all unused blocks back to the system; returns how many bytes that were.
  std::size_t trim() {
    std::vector<Block> blocks;
    {
      std::lock_guard lock(mutex_);
      blocks.swap(free_);
      free_bytes_ = 0;
    }
    std::size_t total = 0;
    for (const auto& b : blocks) {
      munmap(b.data, b.size);
      total += b.size;
    }
    return total;
  }

  // Keeps at most `bytes` from now on; 0 turns the pool off.
  void limit(std::size_t bytes) { cap_ = bytes; }
  bool enabled() const { return cap_ > 0; }
  void lock() { mutex_.lock(); }  // around fork(), so that the child finds the pool in order
  void unlock() { mutex_.unlock(); }

 private:
  struct Block {
    void* data;
    std::size_t size;
  };
  static constexpr std::size_t kPage = std::size_t(2) << 20;

  // Fresh memory aligned to kPage: more than enough is mapped, and what is too much is given back.
  static void* map(std::size_t size) {
    char* const raw = static_cast<char*>(mmap(nullptr, size + kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (raw == MAP_FAILED) return nullptr;
    const std::size_t head = (kPage - reinterpret_cast<std::size_t>(raw) % kPage) % kPage;
    if (head > 0) munmap(raw, head);
    if (kPage > head) munmap(raw + head + size, kPage - head);
#if defined(MADV_HUGEPAGE)
    madvise(raw + head, size, MADV_HUGEPAGE);
#endif
    return raw + head;
  }

  // The smaller of 512 MiB and an eighth of the memory that the control group allows.
  static std::size_t default_cap() {
    std::size_t cap = std::size_t(512) << 20;
#if defined(__linux__)
    if (std::FILE* const f = std::fopen("/sys/fs/cgroup/memory.max", "r")) {
      unsigned long long limit = 0;
      if (std::fscanf(f, "%llu", &limit) == 1 && limit / 8 < cap) cap = limit / 8;
      std::fclose(f);
    }
#endif
    return cap;
  }

  std::mutex mutex_;
  std::vector<Block> free_;
  std::unordered_map<void*, std::size_t> used_;
  std::size_t free_bytes_ = 0;
  std::atomic<std::size_t> cap_ = default_cap();
};

}  // namespace softmap
