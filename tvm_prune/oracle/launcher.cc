// Threads for the parallel loops of one library. It is linked into every library and stands in for TVM's thread pool.
//
// TVM hands work to a thread through a queue, one microsecond for a kernel that computes nothing; here it is one line
// of memory that the thread watches, a fifth of that. A task that its thread has not begun is done by whoever is free
// first, so that nobody waits for a thread that sleeps or was put off its core. A thread that has watched in vain for
// 100 us sleeps. Whoever waits longer than a microsecond lets others onto its core: the system may have put the one that
// is waited for there. A call from a second thread, or from within a parallel loop, runs its tasks itself.
//
// THREADS, from the command line, is the number of threads unless TVM_NUM_THREADS is set when the first loop runs.

#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>
#ifdef __linux__
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include <atomic>

namespace {

// The types of TVM's tvm/runtime/c_backend_api.h: a parallel loop is called for each task, told how many there are.
struct Group {
  void* sync_handle;
  int32_t tasks;
};
using Loop = int (*)(int task, Group* group, void* data);

constexpr int kMostThreads = 256;
constexpr int kTaskBits = 16;
constexpr int64_t kWatchNs = 100000;
constexpr uint64_t kStop = ~uint64_t{0};

// Each in a cache line of its own, as every line that two threads write costs a hundred nanoseconds a turn.
struct alignas(64) Task {
  std::atomic<uint64_t> begun{0};  // number of the last job whose task somebody has begun, and ended
  std::atomic<uint64_t> ended{0};
  int status = 0;
};

struct alignas(64) Job {
  std::atomic<uint64_t> word{0};  // its number, then its count of tasks
  Loop loop = nullptr;
  void* data = nullptr;
};

Job job;
Task tasks[kMostThreads];
alignas(64) std::atomic<bool> busy{false};
alignas(64) std::atomic<int> sleeping{0};
pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
pthread_cond_t wake = PTHREAD_COND_INITIALIZER;
pthread_t workers[kMostThreads];
std::atomic<int> ids[kMostThreads];  // the system's numbers of the workers; 0 before they run
int started = 0;       // workers that run, numbered from 1
int thread_count = 0;  // with the caller; 0 before the first loop
bool told_of_forks = false;

void Pause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__) || defined(__arm__)
  asm volatile("yield");
#endif
}

int64_t NowNs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{now.tv_sec} * 1000000000 + now.tv_nsec;
}

// Do a task of job `number` unless somebody has begun it. The job cannot end before, so its loop is the one it has.
void Try(int task, uint64_t number, int count) {
  uint64_t begun = tasks[task].begun.load(std::memory_order_relaxed);
  if (begun >= number || !tasks[task].begun.compare_exchange_strong(begun, number, std::memory_order_acq_rel)) return;
  Group group{nullptr, count};
  tasks[task].status = job.loop(task, &group, job.data);
  tasks[task].ended.store(number, std::memory_order_release);
}

// Return the word of the next job after `word`.
uint64_t Next(uint64_t word) {
  uint64_t found;
  const int64_t begin = NowNs();
  for (int turn = 1;; ++turn) {
    if ((found = job.word.load(std::memory_order_acquire)) != word) return found;
    Pause();
    if (turn % 64 == 0) {
      if (NowNs() - begin > kWatchNs) break;
      sched_yield();
    }
  }
  pthread_mutex_lock(&mutex);
  // Whoever hands out a job writes it down and then looks who sleeps; here it is the other way around.
  sleeping.fetch_add(1);
  while ((found = job.word.load()) == word) pthread_cond_wait(&wake, &mutex);
  sleeping.fetch_sub(1);
  pthread_mutex_unlock(&mutex);
  return found;
}

void* Work(void* argument) {
  const int own = static_cast<int>(reinterpret_cast<intptr_t>(argument));
#ifdef __linux__
  ids[own].store(static_cast<int>(syscall(SYS_gettid)));
#endif
  uint64_t word = 0;
  while ((word = Next(word)) != kStop) {
    const int count = static_cast<int>(word & ((1 << kTaskBits) - 1));
    // Its own first, as the data may be near; task 0 is the caller's.
    for (int turn = 0; own < count && turn < count - 1; ++turn) {
      Try(1 + (own - 1 + turn) % (count - 1), word >> kTaskBits, count);
    }
  }
  return nullptr;
}

// Keep the workers off the caller's core. When all cores are idle the system likes to wake a thread on the core of who
// wakes it, and lets it wait there for milliseconds.
void Part() {
#ifdef __linux__
  cpu_set_t cores;
  const int own = sched_getcpu();
  if (own < 0 || sched_getaffinity(0, sizeof cores, &cores) != 0 || CPU_COUNT(&cores) < 2) return;
  CPU_CLR(own, &cores);
  for (int worker = 1; worker <= started; ++worker) {
    if (const int id = ids[worker].load()) sched_setaffinity(id, sizeof cores, &cores);
  }
#endif
}

void HandOut(uint64_t word) {
  job.word.store(word);
  if (sleeping.load() > 0) {
    Part();
    pthread_mutex_lock(&mutex);
    pthread_cond_broadcast(&wake);
    pthread_mutex_unlock(&mutex);
  }
}

// A child of fork has none of the threads, and no job that some of them may not have begun.
void AfterFork() {
  started = thread_count = 0;
  job.word.store(((job.word.load() >> kTaskBits) + 1) << kTaskBits);
  sleeping.store(0);
  busy.store(false);
  pthread_mutex_init(&mutex, nullptr);
  pthread_cond_init(&wake, nullptr);
}

void Start() {
  const char* asked = getenv("TVM_NUM_THREADS");
  thread_count = asked != nullptr && atoi(asked) > 0 ? atoi(asked) : THREADS;
  if (thread_count > kMostThreads) thread_count = kMostThreads;
  if (!told_of_forks) told_of_forks = pthread_atfork(nullptr, nullptr, AfterFork) == 0;
  // A thread that looks at an old job finds all of it done.
  for (int own = 1; own < thread_count; ++own) {
    ids[own].store(0);
    if (pthread_create(&workers[own], nullptr, Work, reinterpret_cast<void*>(intptr_t{own})) != 0) break;
    started = own;
  }
}

// The code must not go away under the threads. Loops that come later run on one.
__attribute__((destructor)) void Stop() {
  if (started == 0) return;
  busy.store(true);
  HandOut(kStop);
  for (int own = 1; own <= started; ++own) pthread_join(workers[own], nullptr);
  started = 0;
}

int Launch(Loop loop, void* data, int wanted) {
  Group group{nullptr, 1};
  if (busy.exchange(true, std::memory_order_acquire)) return loop(0, &group, data);
  if (thread_count == 0) Start();
  const int count = group.tasks = wanted > 0 && wanted < thread_count ? wanted : thread_count;
  job.loop = loop;
  job.data = data;
  const uint64_t number = (job.word.load(std::memory_order_relaxed) >> kTaskBits) + 1;
  HandOut(number << kTaskBits | static_cast<uint64_t>(count));
  int status = loop(0, &group, data);
  for (int task = 1; task < count; ++task) Try(task, number, count);
  for (int task = 1; task < count; ++task) {
    for (int turn = 1; tasks[task].ended.load(std::memory_order_acquire) != number; ++turn) {
      Pause();
      if (turn % 256 == 0) sched_yield();
    }
    if (status == 0) status = tasks[task].status;
  }
  busy.store(false, std::memory_order_release);
  return status;
}

}  // namespace

// Kernels call through this pointer, which TVM sets in every library that it loads and in which it finds the name. It
// does not find what is hidden.
extern "C" __attribute__((visibility("hidden"))) int (*__TVMBackendParallelLaunch)(Loop, void*, int);
int (*__TVMBackendParallelLaunch)(Loop, void*, int) = Launch;
