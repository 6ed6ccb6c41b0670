// Threads of kernels as fibers of one thread of the host, which the sanitizers are told about.
#include <sys/mman.h>

#include <cstdlib>

#include "machine.h"

extern "C" void emulator_switch(void** save_stack_pointer, void* to_stack_pointer);
#if defined(__x86_64__)
asm(".text\n.globl emulator_switch\n.type emulator_switch,@function\nemulator_switch:\n"
    "pushq %rbp\npushq %rbx\npushq %r12\npushq %r13\npushq %r14\npushq %r15\n"
    "movq %rsp,(%rdi)\nmovq %rsi,%rsp\n"
    "popq %r15\npopq %r14\npopq %r13\npopq %r12\npopq %rbx\npopq %rbp\nret\n.size emulator_switch,.-emulator_switch\n");
#else
#error "the emulator has a context switch for x86-64 only"
#endif

namespace emulator {
namespace {

constexpr size_t kGuard = 4096;
// The thread of the host, while a fiber runs.
struct Host {
  void *stack_pointer = nullptr, *tsan = nullptr, *fake_stack = nullptr;
  const void* bottom = nullptr;
  size_t size = 0;
} host;

size_t stack_size() { return __asan_poison_memory_region || __tsan_create_fiber ? 128 * 1024 : 64 * 1024; }

extern "C" void emulator_entry() {
  if (__sanitizer_finish_switch_fiber) __sanitizer_finish_switch_fiber(nullptr, &host.bottom, &host.size);
  acquire(&machine.begin);
  acquire(machine.running->block->cluster->before);
  (*machine.body)();
  release(machine.running->block->cluster->after);
  release(&machine.end);
  {
    const Quiet quiet;
    leave(machine.running);
  }
  give_up(Fiber::kDone, {});
  abort();
}

}  // namespace

Fiber* new_fiber() {
  void* const memory =
      mmap(nullptr, kGuard + stack_size(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return nullptr;
  mprotect(memory, kGuard, PROT_NONE);
  auto* const fiber = new Fiber;
  fiber->stack = static_cast<unsigned char*>(memory) + kGuard;
  fiber->tsan = __tsan_create_fiber ? __tsan_create_fiber(0) : nullptr;
  return fiber;
}

void drop(Fiber* fiber) {
  if (fiber->tsan) __tsan_destroy_fiber(fiber->tsan);
  if (__asan_unpoison_memory_region) __asan_unpoison_memory_region(fiber->stack, stack_size());
  munmap(fiber->stack - kGuard, kGuard + stack_size());
  delete fiber;
}

void prepare(Fiber* fiber) {
  const auto top = reinterpret_cast<uintptr_t>(fiber->stack + stack_size() - 64) & ~uintptr_t(15);
  void** at = reinterpret_cast<void**>(top);
  *--at = nullptr;
  *--at = reinterpret_cast<void*>(&emulator_entry);
  for (int i = 0; i < 6; ++i) *--at = nullptr;
  fiber->stack_pointer = at;
  fiber->fake_stack = nullptr;
  fiber->state = Fiber::kReady;
}

void run(Fiber* fiber) {
  machine.running = fiber;
  threadIdx = fiber->thread;
  blockIdx = fiber->block->index;
  if (__sanitizer_start_switch_fiber) __sanitizer_start_switch_fiber(&host.fake_stack, fiber->stack, stack_size());
  if (__tsan_switch_to_fiber) {
    host.tsan = __tsan_get_current_fiber();
    __tsan_switch_to_fiber(fiber->tsan, 1);
  }
  emulator_switch(&host.stack_pointer, fiber->stack_pointer);
  if (__sanitizer_finish_switch_fiber) __sanitizer_finish_switch_fiber(host.fake_stack, nullptr, nullptr);
}

void give_up(Fiber::State state, Site site) {
  Fiber* const fiber = machine.running;
  fiber->state = state;
  fiber->waits_at = site;
  if (__sanitizer_start_switch_fiber) {
    __sanitizer_start_switch_fiber(state == Fiber::kDone ? nullptr : &fiber->fake_stack, host.bottom, host.size);
  }
  if (__tsan_switch_to_fiber) __tsan_switch_to_fiber(host.tsan, 1);
  emulator_switch(&fiber->stack_pointer, host.stack_pointer);
  if (__sanitizer_finish_switch_fiber) __sanitizer_finish_switch_fiber(fiber->fake_stack, &host.bottom, &host.size);
}

}  // namespace emulator
