// Loops on the threads of launcher.cc: each mode exits with 0 if all tasks were done once, in time, and says so.
// Compiled with it to a program, and with -DLIBRARY to a library that the mode "unload" opens.

#include <dirent.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

struct Group {
  void* sync_handle;
  int32_t tasks;
};
using Loop = int (*)(int, Group*, void*);
extern "C" __attribute__((visibility("hidden"))) int (*__TVMBackendParallelLaunch)(Loop, void*, int);

constexpr int kMost = 256;
struct Counts {
  int done[kMost];
  int32_t tasks;
};

static int Count(int task, Group* group, void* data) {
  Counts* counts = static_cast<Counts*>(data);
  ++counts->done[task];
  if (task == 0) counts->tasks = group->tasks;
  return 0;
}

static int Fail(int task, Group*, void*) { return task == 1 ? 7 : 0; }

static int Nest(int task, Group* group, void* data) {
  if (group->tasks == 1) return 1;
  return __TVMBackendParallelLaunch(Count, static_cast<Counts*>(data) + task, 0);
}

// Whether each of `loops` loops did all of `wanted` tasks (0 = as many as there are) once.
static bool Loops(int loops, int wanted, int expected) {
  for (int loop = 0; loop < loops; ++loop) {
    Counts counts{};
    if (__TVMBackendParallelLaunch(Count, &counts, wanted) != 0) return false;
    if (expected != 0 && counts.tasks != expected) return false;
    for (int task = 0; task < kMost; ++task) {
      if (counts.done[task] != (task < counts.tasks ? 1 : 0)) return false;
    }
  }
  return true;
}

#ifdef LIBRARY
extern "C" int work() { return Loops(1000, 0, 0) ? 0 : 1; }
#else
static void* Caller(void*) { return Loops(20000, 0, 0) ? nullptr : reinterpret_cast<void*>(1); }

static int Threads() {
  int found = 0;
  DIR* folder = opendir("/proc/self/task");
  while (dirent* entry = readdir(folder)) found += entry->d_name[0] != '.';
  closedir(folder);
  return found;
}

// A thread that was joined stays listed for a moment.
static bool Settles(int expected) {
  for (int turn = 0; turn < 2000 && Threads() != expected; ++turn) usleep(1000);
  return Threads() == expected;
}

int main(int argc, char** argv) {
  const char* mode = argv[1];
  const int threads = argc > 2 ? argv[2][0] - '0' : 0;
  if (!strcmp(mode, "count")) return Loops(50000, 0, threads) && Settles(threads) ? 0 : 1;
  if (!strcmp(mode, "fewer")) return Loops(1000, 2, 2) && Loops(1000, 0, threads) && Loops(9, 99, threads) ? 0 : 1;
  if (!strcmp(mode, "fail")) return __TVMBackendParallelLaunch(Fail, nullptr, 0) == 7 && Loops(9, 0, 0) ? 0 : 1;
  if (!strcmp(mode, "nest")) {
    Counts counts[kMost]{};
    if (__TVMBackendParallelLaunch(Nest, counts, 0) != 0) return 1;
    for (int task = 0; task < threads; ++task) {
      if (counts[task].done[0] != 1 || counts[task].tasks != 1) return 1;
    }
    return 0;
  }
  if (!strcmp(mode, "callers")) {
    pthread_t callers[4];
    for (pthread_t& caller : callers) pthread_create(&caller, nullptr, Caller, nullptr);
    bool good = true;
    for (pthread_t& caller : callers) {
      void* bad;
      pthread_join(caller, &bad);
      good = good && bad == nullptr;
    }
    return good ? 0 : 1;
  }
  if (!strcmp(mode, "sleep")) {
    for (int turn = 0; turn < 200; ++turn) {
      usleep(500);  // longer than a thread watches
      if (!Loops(3, 0, threads)) return 1;
    }
    return 0;
  }
  if (!strcmp(mode, "fork")) {
    if (!Loops(10, 0, threads)) return 1;
    pid_t child = fork();
    if (child == 0) _exit(Loops(1000, 0, threads) && Settles(threads) ? 0 : 1);
    int status;
    waitpid(child, &status, 0);
    return status == 0 && Loops(1000, 0, threads) ? 0 : 1;
  }
  if (!strcmp(mode, "unload")) {
    for (int turn = 0; turn < 50; ++turn) {
      void* library = dlopen(argv[2], RTLD_NOW | RTLD_LOCAL);
      if (library == nullptr || dlsym(library, "__TVMBackendParallelLaunch") != nullptr) return 1;
      if (reinterpret_cast<int (*)()>(dlsym(library, "work"))() != 0 || !Settles(3)) return 1;
      if (dlclose(library) != 0 || !Settles(1)) return 1;
    }
    return 0;
  }
  return 2;
}
#endif
